//! An in-memory transport: the sandbox's world behind it, and the errors of real sockets.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::service::Service;
use crate::http::{BodyReader, Lane, Limits, Net, NetKind, Pending, Transport, WireError};
use crate::sandbox::{Cut, Reply, SimTime, World};

/// Time that each request takes, so that time passes.
const LATENCY: Duration = Duration::from_millis(40);

/// When a connection attempt without a response is given up, as in `Pace`.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A transport to a world.
#[derive(Clone)]
pub(super) struct MemoryTransport {
    pub(super) world: Rc<RefCell<World>>,
    /// The service between the world and us.
    pub(super) service: Rc<RefCell<Service>>,
    start: SimTime,
    begun: Instant,
    /// Number of triggers sent.
    pub(super) posts: Rc<Cell<u32>>,
    killed: Rc<Notify>,
}

impl MemoryTransport {
    pub(super) fn new(world: World, start: SimTime) -> MemoryTransport {
        MemoryTransport {
            world: Rc::new(RefCell::new(world)),
            service: Rc::default(),
            start,
            begun: Instant::now(),
            posts: Rc::new(Cell::new(0)),
            killed: Rc::new(Notify::new()),
        }
    }

    pub(super) fn now(&self) -> SimTime {
        self.start.plus(i64::try_from(self.begun.elapsed().as_millis()).unwrap())
    }

    /// Waits until a fault kills the calling process.
    pub(super) async fn killed(&self) {
        self.killed.notified().await;
    }
}

impl Transport for MemoryTransport {
    fn send(&self, request: Request<Bytes>, limits: Limits, lane: Lane) -> Pending<'_> {
        Box::pin(async move {
            if lane == Lane::Fresh {
                self.posts.set(self.posts.get() + 1);
            }
            sleep(LATENCY / 2).await;
            let reply = self.service.borrow_mut().answer(&mut self.world.borrow_mut(), self.now(), &request);
            sleep(LATENCY / 2).await;
            arrive(reply, limits, &self.killed).await
        })
    }
}

/// What the caller gets for a reply of the world, as over a real socket (`table` compares the two). A kill notifies
/// `killed` and never returns.
pub(crate) async fn arrive(reply: Reply, limits: Limits, killed: &Notify) -> Result<Response<Bytes>, WireError> {
    let not_sent = |kind| Err(WireError::NotSent(Net::new(kind, "simulated")));
    let broken = || Err(WireError::Lost(Net::new(NetKind::Broken, "simulated")));
    match reply {
        Reply::Answer(answer) => {
            let (head, body) = answer.into_parts();
            let mut reader = BodyReader::new(limits);
            reader.push(&body)?;
            Ok(Response::from_parts(head, reader.done()))
        }
        Reply::Broken(cut, answer) => match cut {
            Cut::NoName => not_sent(NetKind::Name),
            Cut::Refused => not_sent(NetKind::Connect),
            Cut::Blackhole => {
                sleep(CONNECT_LIMIT).await;
                not_sent(NetKind::ConnectTimeout)
            }
            Cut::Tls => not_sent(NetKind::Tls),
            Cut::Reset | Cut::Close | Cut::ResetAfterHead | Cut::ResetInBody | Cut::Truncated => broken(),
            // Connections are not reused here; `table` shows this on sockets.
            Cut::Stale => Ok(answer),
            // The caller's time limit ends it.
            Cut::Hang | Cut::Silence | Cut::Drip => pending().await,
            Cut::Huge => Err(WireError::TooLarge),
            Cut::Kill | Cut::KillDuring => {
                killed.notify_one();
                pending().await
            }
        },
    }
}
