//! Connections that are opened before there is a request for them, so that the first ones of a later moment need not wait for
//! one. Nothing is sent over them: one that a request gets from here has carried no other.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// An idle connection of this age is not used any more: the other side may be about to close it.
const FRESH_FOR: Duration = Duration::from_secs(4);

tokio::task_local! {
    /// Where the connection goes that this task opens: there is no request behind it.
    static OPENS: Cell<Option<oneshot::Sender<Opened>>>;
}

struct Opened {
    at: Instant,
    connection: Box<dyn Any + Send>,
}

/// Connections that are open, or will be in a moment, for one client.
#[derive(Clone, Default)]
pub(super) struct Ahead(Arc<Mutex<VecDeque<oneshot::Receiver<Opened>>>>);

impl Ahead {
    /// Opens one. `client` makes connections of its own for each request, and its connector is a [`Connector`].
    pub(super) fn open(&self, client: &reqwest::Client, origin: &url::Url) {
        let (opened, promise) = oneshot::channel();
        self.queue(|queue| queue.push_back(promise));
        // What goes wrong is told to the request that opens a connection after this one.
        let connecting = client.get(origin.clone()).send();
        tokio::spawn(OPENS.scope(Cell::new(Some(opened)), async { drop(connecting.await) }));
    }

    fn queue<R>(&self, work: impl FnOnce(&mut VecDeque<oneshot::Receiver<Opened>>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Layer<S> for Ahead {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector { inner, ahead: self.clone() }
    }
}

/// Gives out what is open already, and otherwise opens a connection.
#[derive(Clone)]
pub(super) struct Connector<S> {
    inner: S,
    ahead: Ahead,
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
        // The one that is ready.
        let mut inner = std::mem::replace(&mut self.inner, next);
        if let Some(opened) = OPENS.try_with(Cell::take).ok().flatten() {
            return Box::pin(async move {
                let connection = Box::new(inner.call(to).await?);
                // Nobody waits any more if the client is gone.
                let _ = opened.send(Opened { at: Instant::now(), connection });
                Err(BoxError::from(NoRequest))
            });
        }
        let ahead = self.ahead.clone();
        Box::pin(async move {
            while let Some(promise) = ahead.queue(VecDeque::pop_front) {
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

/// Ends the opening of a connection before anything is sent.
#[derive(Debug)]
struct NoRequest;

impl fmt::Display for NoRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection waits for a request")
    }
}

impl Error for NoRequest {}
