//! Locks in Redis, over the connection of the reservations.

use super::redis::RedisReservations;
use crate::customer::Customer;
use crate::error::ReservationsUnavailable;
use crate::order::ResourceId;
use crate::ports::{Lock, Locks};
use crate::stores::redis::locks::{Locking, lock};

impl RedisReservations<'_> {
    fn locking(&self) -> Locking<'_> {
        Locking {
            prefix: &self.settings.redis_key_prefix,
            lease: self.settings.lock_lease,
        }
    }
}

impl Locks for RedisReservations<'_> {
    async fn acquire(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<Lock, ReservationsUnavailable> {
        let command = self.locking().acquire(customer, holder);
        lock(self.guarded(command).await?).ok_or(ReservationsUnavailable)
    }

    async fn release(
        &self,
        customer: &Customer,
        holder: &ResourceId,
    ) -> Result<(), ReservationsUnavailable> {
        let command = self.locking().release(customer, holder);
        self.guarded(command).await.map(|_| ())
    }
}
