//! A channel whose senders can wait for the receiver's end.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use shuttle_tokio::sync::{Semaphore, mpsc};

/// As tokio's.
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    end: Arc<Semaphore>,
}

/// As tokio's.
pub struct Receiver<T> {
    // Goes before the end is said.
    receiver: mpsc::Receiver<T>,
    _end: End,
}

/// Dropped, it is said.
struct End(Arc<Semaphore>);

pub fn channel<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let ((sender, receiver), end) = (mpsc::channel(room), Arc::new(Semaphore::new(0)));
    (Sender { sender, end: end.clone() }, Receiver { receiver, _end: End(end) })
}

impl<T> Sender<T> {
    pub async fn closed(&self) {
        // It has no permit, ever.
        let _ = self.end.acquire().await;
    }

    pub async fn reserve_owned(self) -> Result<mpsc::OwnedPermit<T>, mpsc::error::SendError<()>> {
        self.sender.reserve_owned().await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), end: self.end.clone() }
    }
}

impl<T> Deref for Sender<T> {
    type Target = mpsc::Sender<T>;

    fn deref(&self) -> &Self::Target {
        &self.sender
    }
}

impl<T> Deref for Receiver<T> {
    type Target = mpsc::Receiver<T>;

    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}

impl<T> DerefMut for Receiver<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.receiver
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.close();
    }
}
