//! Connections opened before there is a request for them, so that the first requests need not wait for one. Nothing has
//! been sent over such a connection when a request takes it.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Maximum age of an idle connection. The server may be about to close an older one.
const FRESH_FOR: Duration = Duration::from_secs(4);

tokio::task_local! {
    /// Where the current task puts the connection it opens instead of sending a request over it.
    static OPENS: Cell<Option<oneshot::Sender<Opened>>>;
}

struct Opened {
    at: Instant,
    connection: Box<dyn Any + Send>,
}

/// The connections of one client that are open or being opened.
#[derive(Clone, Default)]
pub(super) struct Preconnected(Arc<Mutex<VecDeque<oneshot::Receiver<Opened>>>>);

impl Preconnected {
    /// Opens a connection. `client` must keep no idle connections, and its connector must be a [`Connector`].
    pub(super) fn open(&self, client: &reqwest::Client, origin: &url::Url) {
        let (opened, promise) = oneshot::channel();
        self.queue(|queue| queue.push_back(promise));
        // Errors are dropped: the request that opens the next connection meets them too.
        let connecting = client.get(origin.clone()).send();
        tokio::spawn(OPENS.scope(Cell::new(Some(opened)), async { drop(connecting.await) }));
    }

    fn queue<R>(&self, work: impl FnOnce(&mut VecDeque<oneshot::Receiver<Opened>>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Layer<S> for Preconnected {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector { inner, preconnected: self.clone() }
    }
}

/// Hands out connections opened ahead; opens a new one if there is none.
#[derive(Clone)]
pub(super) struct Connector<S> {
    inner: S,
    preconnected: Preconnected,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = BoxError> + Clone + Send + 'static,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let next = self.inner.clone();
        // `self.inner` is the service that `poll_ready` was called on; the clone may not be ready.
        let mut inner = std::mem::replace(&mut self.inner, next);
        if let Some(opened) = OPENS.try_with(Cell::take).ok().flatten() {
            return Box::pin(async move {
                let connection = Box::new(inner.call(to).await?);
                // Fails if the client has been dropped.
                let _ = opened.send(Opened { at: Instant::now(), connection });
                Err(BoxError::from(NoRequest))
            });
        }
        let preconnected = self.preconnected.clone();
        Box::pin(async move {
            while let Some(promise) = preconnected.queue(VecDeque::pop_front) {
                if let Ok(Opened { at, connection }) = promise.await
                    && at.elapsed() < FRESH_FOR
                    && let Ok(connection) = connection.downcast()
                {
                    return Ok(*connection);
                }
            }
            inner.call(to).await
        })
    }
}

/// Stops reqwest after connecting, before anything is sent.
#[derive(Debug, thiserror::Error)]
#[error("the connection waits for a request")]
struct NoRequest;
