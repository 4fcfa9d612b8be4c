//! How one request of an instance wakes another. It depends on the host.

/// Makes pairs of a sender and a receiver. The receiver is ready as soon as the sender is dropped.
pub trait Signals {
    /// Wakes the receiver when it is dropped.
    type Sender;
    /// Waits for the sender.
    type Receiver: Future<Output = ()>;

    /// A new pair.
    fn signal(&self) -> (Self::Sender, Self::Receiver);

    /// The same for a signal that is most likely never sent, and for which a request never waits alone: the host
    /// would wake it for something else as well. That may be cheaper.
    fn alarm(&self) -> (Self::Sender, Self::Receiver) {
        self.signal()
    }
}

/// Signals over channels, for unit tests.
#[cfg(test)]
pub(crate) mod oneshots {
    use futures::channel::oneshot;
    use futures::future::FutureExt;

    use super::Signals;

    pub(crate) struct Oneshots;

    impl Signals for Oneshots {
        type Sender = oneshot::Sender<()>;
        type Receiver = std::pin::Pin<Box<dyn Future<Output = ()>>>;

        fn signal(&self) -> (Self::Sender, Self::Receiver) {
            let (sender, receiver) = oneshot::channel();
            (sender, receiver.map(|_| ()).boxed_local())
        }
    }
}
