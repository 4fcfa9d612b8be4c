//! Wakes one request from another. A waker cannot do that: each request is a task of the component model, which runs
//! only after an event of its own. wit-bindgen's `inter-task-wakeup` would add a stream to every wait of every request.
//!
//! Here a request that waits for a signal reads from a stream whose writing end is dropped. For an alarm, a stream is
//! made only when it rings: then the *other* request makes the one that waits read from it.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use exactly_once::signals::Signals;
use spin_sdk::wasip3::wit_stream;
use spin_sdk::wit_bindgen::StreamWriter;

unsafe extern "C" {
    /// Sets the task to which operations add what they wait for, and returns the one before. The interface between
    /// versions of wit-bindgen (`rt/async_support/cabi.rs`).
    fn wasip3_task_set(task: *mut c_void) -> *mut c_void;
}

/// A task of the component model, as wit-bindgen knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Task(*mut c_void);

impl Task {
    /// The one that is running.
    fn current() -> Self {
        // SAFETY: nothing runs before the task is set again.
        unsafe {
            let task = wasip3_task_set(ptr::null_mut());
            wasip3_task_set(task);
            Self(task)
        }
    }

    /// Polls a future as if this task did it, and so lets the task wait for it.
    ///
    /// # Safety
    /// The task has not ended, and is not running.
    unsafe fn poll(self, future: Pin<&mut dyn Future<Output = ()>>, waker: &Waker) {
        // SAFETY: the task is there. It is not running, so nothing else refers to its state.
        let running = unsafe { wasip3_task_set(self.0) };
        let _ = future.poll(&mut Context::from_waker(waker));
        // SAFETY: it was set before.
        unsafe { wasip3_task_set(running) };
    }
}

/// Signals between the requests of this instance.
#[derive(Clone, Copy)]
pub struct TaskSignals;

type Event = Pin<Box<dyn Future<Output = ()>>>;

/// What is read from a stream, and the end that is dropped to end it.
fn event() -> (StreamWriter<u8>, Event) {
    let (writer, mut reader) = wit_stream::new();
    let read = async move {
        reader.next().await;
    };
    (writer, Box::pin(read))
}

struct Signal {
    is_alarm: bool,
    sent: Cell<bool>,
    /// The task that waits for the signal, and what it polls then.
    waits: RefCell<Option<(Task, Waker)>>,
    /// What wakes that task.
    event: RefCell<Option<Event>>,
    writer: RefCell<Option<StreamWriter<u8>>>,
}

impl Signal {
    fn pair(is_alarm: bool) -> (Sender, Receiver) {
        let signal = Rc::new(Self {
            is_alarm,
            sent: Cell::new(false),
            waits: RefCell::new(None),
            event: RefCell::new(None),
            writer: RefCell::new(None),
        });
        (Sender(signal.clone()), Receiver(signal))
    }
}

/// Sends the signal when it is dropped.
pub struct Sender(Rc<Signal>);

/// Waits for the signal.
pub struct Receiver(Rc<Signal>);

impl Signals for TaskSignals {
    type Sender = Sender;
    type Receiver = Receiver;

    fn signal(&self) -> (Sender, Receiver) {
        Signal::pair(false)
    }

    fn alarm(&self) -> (Sender, Receiver) {
        Signal::pair(true)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let Signal { sent, waits, event: slot, writer, .. } = &*self.0;
        sent.set(true);
        let Some((task, waker)) = waits.take() else {
            return;
        };
        if task == Task::current() {
            waker.wake();
        } else if slot.borrow().is_none() {
            let (writer, mut event) = event();
            // SAFETY: the task has not ended, because it would have dropped the receiver; and another one is running.
            unsafe { task.poll(event.as_mut(), &waker) };
            *slot.borrow_mut() = Some(event);
            drop(writer);
        }
        writer.take();
    }
}

impl Future for Receiver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Signal { is_alarm, sent, waits, event: slot, writer } = &*self.0;
        if sent.get() {
            return Poll::Ready(());
        }
        if waits.borrow().as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        *waits.borrow_mut() = Some((Task::current(), cx.waker().clone()));
        if !is_alarm {
            // wit-bindgen cannot wait for nothing of the host's.
            let slot = &mut *slot.borrow_mut();
            let event = slot.get_or_insert_with(|| {
                let (end, event) = event();
                *writer.borrow_mut() = Some(end);
                event
            });
            let _ = event.as_mut().poll(cx);
        }
        Poll::Pending
    }
}

impl Drop for Receiver {
    /// The event is dropped by the task that waits for it, whoever drops the sender.
    fn drop(&mut self) {
        self.0.waits.take();
        self.0.event.take();
        self.0.writer.take();
    }
}
