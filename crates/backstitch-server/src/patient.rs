//! How long is a caller waited for who takes nothing of what is told?
//!
//! Below TLS, where it shows what went over the wire.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a caller may take nothing while there is something to take. One that is far away and loses packets takes some
/// within seconds.
pub const TAKE_TIME: Duration = Duration::from_secs(30);

/// A stream whose other end must take what is written.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    /// Runs while nothing is taken. None: nothing waits to be.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }

    /// What came of writing, or that nothing came of it for too long.
    fn in_time(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(TAKE_TIME)));
        ready!(waiting.as_mut().poll(context));
        let why = format!("the caller took nothing for {} s", TAKE_TIME.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A socket has nothing to flush: that it did says nothing of the other end.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_given_up() {
        let (ours, _theirs) = duplex(16);
        let began = Instant::now();
        let error = Patient::new(ours).write_all(&[7; 17]).await.expect_err("the last byte has no place");
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, TAKE_TIME));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_little_at_a_time_is_waited_for() {
        let (ours, mut theirs) = duplex(16);
        let writing = tokio::spawn(async move { Patient::new(ours).write_all(&[7; 64]).await });
        for _ in 0..4 {
            sleep(TAKE_TIME - Duration::from_secs(1)).await;
            theirs.read_exact(&mut [0; 16]).await.expect("there is more");
        }
        writing.await.expect("it does not panic").expect("all of it was taken");
    }
}
