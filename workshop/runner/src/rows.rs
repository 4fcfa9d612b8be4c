//! A statement's rows as the component reads them: a stream, and a future that says how the statement ended.

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{
    Accessor, Destination, FutureReader, Lift, Lower, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::host::Spin;

/// What a statement's call returns: its columns, its rows, and how it ends.
pub type Streams<C, R, E> = (Vec<C>, StreamReader<R>, FutureReader<Result<(), E>>);

/// The result of a statement whose rows are still arriving.
pub fn streams<T: Send, C, R, E>(
    accessor: &Accessor<T, Spin>,
    columns: Vec<C>,
    rows: mpsc::Receiver<R>,
    end: oneshot::Receiver<Result<(), E>>,
) -> wasmtime::Result<Streams<C, R, E>>
where
    R: Lower + Lift + Send + Sync + 'static,
    E: Lower + Lift + Send + Sync + 'static,
{
    accessor.with(|mut access| {
        let rows = StreamReader::new(access.as_context_mut(), Rows(rows))?;
        let end = FutureReader::new(access.as_context_mut(), end)?;
        Ok((columns, rows, end))
    })
}

/// Rows that the component has not read yet.
struct Rows<R>(mpsc::Receiver<R>);

impl<D, R: Lower + Send + Sync + 'static> StreamProducer<D> for Rows<R> {
    type Item = R;
    type Buffer = Option<R>;

    fn poll_produce<'a>(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, R, Option<R>>,
        finish: bool,
    ) -> std::task::Poll<wasmtime::Result<StreamResult>> {
        use std::task::Poll;

        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.get_mut().0.poll_recv(cx) {
            Poll::Ready(Some(row)) => {
                destination.set_buffer(Some(row));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
