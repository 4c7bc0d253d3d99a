//! Tasks that belong together.

use futures::FutureExt;
use shuttle_tokio::task;

/// As tokio's.
pub struct JoinSet<T> {
    tasks: task::JoinSet<T>,
}

impl<T: Send + 'static> JoinSet<T> {
    pub fn new() -> Self {
        Self { tasks: task::JoinSet::new() }
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) -> task::AbortHandle {
        self.tasks.spawn(task)
    }

    pub async fn join_next(&mut self) -> Option<Result<T, task::JoinError>> {
        self.tasks.join_next().await
    }

    pub fn try_join_next(&mut self) -> Option<Result<T, task::JoinError>> {
        self.tasks.join_next().now_or_never().flatten()
    }

    pub async fn shutdown(&mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl<T: Send + 'static> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}
