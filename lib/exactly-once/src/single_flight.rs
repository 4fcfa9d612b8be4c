//! Single flight: when several requests of an instance need the same value at the same time, one of them fetches it,
//! and the others wait. The request that fetches it may die at any await.

use std::cell::RefCell;

use crate::signals::Signals;

/// What the requests of one instance share.
pub struct SingleFlight<S: Signals> {
    signals: S,
    /// Wakes the requests that wait for the flight; `None` while there is none.
    waiting: RefCell<Option<Vec<S::Sender>>>,
}

/// The right to fetch the value. Dropping it wakes the waiting requests, however its request ends.
pub struct Flight<'f, S: Signals>(&'f SingleFlight<S>);

impl<S: Signals> SingleFlight<S> {
    /// Without a flight.
    pub const fn new(signals: S) -> Self {
        Self { signals, waiting: RefCell::new(None) }
    }

    /// Returns a flight, or waits for the end of another request's flight and returns `None`. The caller then checks
    /// whether that flight was successful.
    pub async fn join(&self) -> Option<Flight<'_, S>> {
        let wait = {
            let mut waiting = self.waiting.borrow_mut();
            let Some(senders) = waiting.as_mut() else {
                *waiting = Some(Vec::new());
                return Some(Flight(self));
            };
            let (sender, wait) = self.signals.signal();
            senders.push(sender);
            wait
        };
        wait.await;
        None
    }
}

impl<S: Signals> Drop for Flight<'_, S> {
    fn drop(&mut self) {
        let waiting = self.0.waiting.borrow_mut().take();
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::signals::oneshots::Oneshots;

    #[test]
    fn others_wait_until_the_flight_has_ended_and_then_the_first_flies_again() {
        let shared = SingleFlight::new(Oneshots);
        let flight = shared.join().now_or_never().flatten();
        assert!(flight.is_some(), "nobody was under way");
        let mut others = [Box::pin(shared.join()), Box::pin(shared.join())];
        for other in &mut others {
            assert!(other.as_mut().now_or_never().is_none(), "it waits");
        }
        let [gives_up, waits] = others;
        drop(gives_up);
        drop(flight);
        assert!(waits.now_or_never().is_some_and(|joined| joined.is_none()));
        assert!(shared.join().now_or_never().flatten().is_some());
    }
}
