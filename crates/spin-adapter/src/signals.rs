//! Wakes one request from another: a stream of the component model whose writing end is dropped.
//!
//! Plain wakers do not reach from task to task without wit-bindgen's `inter-task-wakeup`, which would make
//! every wait of every request pay for a stream.

use std::future::Future;
use std::pin::Pin;

use spin_sdk::wasip3::wit_stream;
use spin_sdk::wit_bindgen::StreamWriter;

use crate::group_commit::Signals;

/// Signals between the requests of this instance.
pub struct TaskSignals;

impl Signals for TaskSignals {
    type Sender = StreamWriter<u8>;
    type Receiver = Pin<Box<dyn Future<Output = ()>>>;

    fn signal(&self) -> (Self::Sender, Self::Receiver) {
        let (sender, mut receiver) = wit_stream::new();
        let wait = async move {
            receiver.next().await;
        };
        (sender, Box::pin(wait))
    }
}
