//! A connected stream socket, TCP or Unix, that is read and written at the same time by one thread.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpStream, UnixStream};

/// A shared handle; the socket is closed when the last handle and the last operation are gone.
#[derive(Clone)]
pub struct Socket {
    /// Invariant: only this thread holds handles (`Rc`), at most one read and one write are in flight,
    /// and no `&mut` to the stream is alive outside of the calls below that make an operation.
    stream: Rc<UnsafeCell<TcpStream>>,
}

impl Socket {
    /// Takes a connected stream over.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Rc::new(UnsafeCell::new(stream)) }
    }

    /// Connects to a TCP address.
    ///
    /// # Errors
    /// The system call's.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_addr(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// The system call's.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        // SAFETY: `into_raw_fd` gives the only handle of an open descriptor away.
        let fd = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
        // Reading, writing and closing are the same calls for every kind of stream socket.
        TcpStream::from_std(std::net::TcpStream::from(fd)).map(Self::new)
    }

    /// Takes one end of a Unix socket pair over.
    ///
    /// # Errors
    /// The runtime's.
    pub fn from_unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(stream))).map(Self::new)
    }

    fn stream(&self) -> &TcpStream {
        // SAFETY: by the field's invariant no `&mut` is alive.
        unsafe { &*self.stream.get() }
    }

    /// Reads into `buf`; 0 bytes is the end of the stream.
    pub async fn read<T: IoBufMut>(self, buf: T) -> (io::Result<usize>, T) {
        // SAFETY: monoio declares `TcpStream` to be usable from two halves at once (`unsafe impl
        // Split`): making an operation only clones the descriptor handle.
        let stream = unsafe { &mut *self.stream.get() };
        stream.read(buf).await
    }

    /// Writes some of `buf`.
    pub async fn write<T: IoBuf>(self, buf: T) -> (io::Result<usize>, T) {
        // SAFETY: as in `read`.
        let stream = unsafe { &mut *self.stream.get() };
        stream.write(buf).await
    }

    /// Waits until a read would not wait; holds no buffer meanwhile.
    ///
    /// # Errors
    /// The operation's.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream().readable(true).await
    }

    /// Whether nothing, not even an end, waits to be received.
    #[must_use]
    pub fn has_nothing_to_read(&self) -> bool {
        matches!(self.peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the next read tells of the end, or of an error.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self.peek() {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn peek(&self) -> io::Result<usize> {
        let mut byte = 0_u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: pointer and length describe `byte`, which lives through the call.
        let got = unsafe { libc::recv(self.stream().as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Closes the sending half.
    pub fn shutdown_write(&self) {
        // SAFETY: the descriptor is open as long as `self`; a failure means that it is closed already.
        unsafe { libc::shutdown(self.stream().as_raw_fd(), libc::SHUT_WR) };
    }

    /// Makes the close of this socket a reset, so that the peer sees that the stream was cut.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = size_of::<libc::linger>() as libc::socklen_t;
        let fd = self.stream().as_raw_fd();
        // SAFETY: the pointer and the length describe a `linger` that lives through the call.
        unsafe {
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
        };
    }

    /// The local address.
    ///
    /// # Errors
    /// The system call's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream().local_addr()
    }

    /// Bytes that the peer's TCP has acknowledged since the connection began; `None` where the kernel
    /// does not tell (Unix sockets).
    #[must_use]
    pub fn bytes_acknowledged(&self) -> Option<u64> {
        /// Offset of `tcpi_bytes_acked` in `struct tcp_info` (linux/tcp.h, since 4.1).
        const BYTES_ACKED: usize = 120;
        let mut info = MaybeUninit::<[u8; 256]>::zeroed();
        let mut length = 256 as libc::socklen_t;
        let fd = self.stream().as_raw_fd();
        // SAFETY: pointer and length describe `info`, which lives through the call.
        let result = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
        };
        // SAFETY: it was zeroed, so every byte is initialised.
        let info = unsafe { info.assume_init() };
        if result != 0 || (length as usize) < BYTES_ACKED + 8 {
            return None;
        }
        let field = info.get(BYTES_ACKED..)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*field))
    }
}

/// Has the kernel prefer this listener, among those of its port, for connections whose packets `cpu` handles.
///
/// # Errors
/// The system call's.
pub fn prefer_incoming_cpu(listener: &std::net::TcpListener, cpu: usize) -> io::Result<()> {
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, level, option) = (listener.as_raw_fd(), libc::SOL_SOCKET, libc::SO_INCOMING_CPU);
    // SAFETY: pointer and length describe `cpu`, which lives through the call.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const cpu).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_keeps_the_cpu_that_it_is_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kept = || {
            let (mut cpu, mut length) = (-2, size_of::<libc::c_int>() as libc::socklen_t);
            let fd = listener.as_raw_fd();
            // SAFETY: pointers and length describe `cpu` and `length`, which live through the call.
            let result = unsafe {
                let (cpu, length) = ((&raw mut cpu).cast(), &raw mut length);
                libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, cpu, length)
            };
            assert_eq!(result, 0);
            cpu
        };
        for cpu in [1, 0] {
            prefer_incoming_cpu(&listener, cpu).unwrap();
            assert_eq!(kept(), cpu as libc::c_int);
        }
        assert!(prefer_incoming_cpu(&listener, usize::MAX).is_err());
    }
}
