//! Wakes one request from another: a stream of the component model whose writing end is dropped.
//!
//! A waker cannot wake another task without wit-bindgen's `inter-task-wakeup`, which would add a stream to every wait
//! of every request.

use std::future::Future;
use std::pin::Pin;

use exactly_once::signals::Signals;
use spin_sdk::wasip3::wit_stream;
use spin_sdk::wit_bindgen::StreamWriter;

/// Signals between the requests of this instance.
#[derive(Clone, Copy)]
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
