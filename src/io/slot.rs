//! One operation at a time on one direction of a socket, armed again in place: a connection allocates
//! its slots once, not a future per operation. Waiting for readiness has a slot of its own, a small one,
//! for it is all that a connection at rest holds.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use monoio::buf::{IoBuf, IoBufMut};
use pin_project_lite::pin_project;

use super::buffers::{BULK_CAPACITY, Buffers};
use super::sys::Socket;
use crate::limits;

/// A direction of a socket.
pub(super) trait Slot<Order, Result> {
    /// Begins an operation; nothing if one is under way.
    fn arm(self: Pin<&mut Self>, order: Order);
    /// The result of the operation under way, if it is over.
    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result>;
}

/// Waits, without a buffer, until a read would not wait: bytes, the end, or an error are there.
pub(super) type Watcher = Pin<Box<dyn Slot<(), ()>>>;
/// The receiving direction: takes a buffer and gives it back, new bytes appended.
pub(super) type Reader = Pin<Box<dyn Slot<Vec<u8>, (io::Result<usize>, Vec<u8>)>>>;
/// The sending direction: the buffer and how much of it was sent before.
pub(super) type Writer = Pin<Box<dyn Slot<(Vec<u8>, usize), (io::Result<usize>, Vec<u8>)>>>;

pin_project! {
    struct Repeated<Make, Operation> {
        make: Make,
        #[pin]
        operation: Option<Operation>,
    }
}

impl<Make, Operation, Order> Slot<Order, Operation::Output> for Repeated<Make, Operation>
where
    Make: Fn(Order) -> Operation,
    Operation: Future,
{
    fn arm(self: Pin<&mut Self>, order: Order) {
        let mut this = self.project();
        if this.operation.is_none() {
            let operation = (this.make)(order);
            this.operation.set(Some(operation));
        }
    }

    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Operation::Output> {
        let mut this = self.project();
        let Some(operation) = this.operation.as_mut().as_pin_mut() else { return Poll::Pending };
        let result = std::task::ready!(operation.poll(cx));
        this.operation.set(None);
        Poll::Ready(result)
    }
}

/// Readiness of `socket` to be read.
pub(super) fn watcher(socket: Socket) -> Watcher {
    Box::pin(Repeated { make: move |()| watch(socket.clone()), operation: None })
}

async fn watch(socket: Socket) {
    // An error shows again, and as what it is, in the read that follows.
    let _ = socket.readable().await;
}

/// The receiving direction of `socket`.
pub(super) fn reader(socket: Socket, buffers: Buffers) -> Reader {
    Box::pin(Repeated {
        make: move |buffer| receive(socket.clone(), buffers.clone(), buffer),
        operation: None,
    })
}

async fn receive(socket: Socket, buffers: Buffers, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    let (begin, capacity) = (buffer.len(), buffer.capacity());
    // A whole bulk buffer of plaintext has to fit into another one when it is sealed.
    let is_bulk = capacity >= BULK_CAPACITY && begin < limits::BULK_BUFFER;
    let end = if is_bulk { limits::BULK_BUFFER } else { capacity };
    debug_assert!(begin < end, "a read without room would look like the end of the stream");
    let watch = buffers.watch(capacity);
    let (result, slice) = socket.read(buffer.slice_mut(begin..end)).await;
    watch.over();
    (result, slice.into_inner())
}

/// The sending direction of `socket`.
pub(super) fn writer(socket: Socket, buffers: Buffers) -> Writer {
    Box::pin(Repeated {
        make: move |(buffer, sent)| send(socket.clone(), buffers.clone(), buffer, sent),
        operation: None,
    })
}

async fn send(
    socket: Socket,
    buffers: Buffers,
    buffer: Vec<u8>,
    sent: usize,
) -> (io::Result<usize>, Vec<u8>) {
    let watch = buffers.watch(buffer.capacity());
    let (result, slice) = socket.write(buffer.slice(sent..)).await;
    watch.over();
    (result, slice.into_inner())
}
