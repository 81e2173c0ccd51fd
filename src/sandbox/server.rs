//! Serves [`World`] on loopback sockets, with its own clock and a log of every request.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::environment::{self, Variables};
use super::log::{Log, LogLine};
use super::notebook::{self, PythonSearch};
use super::options::{FASTEST, OnMessage, Options, StartError};
use super::tls::Tls;
use super::{Cut, FaultKind, FaultRule, Reply, SimTime, World, peer, stream};

pub(super) struct Shared {
    origin: String,
    variables: Variables,
    /// The CA certificate file that clients must trust, if https is served.
    pub(super) authority: Option<PathBuf>,
    started: Instant,
    start: SimTime,
    pub(super) speed: f64,
    pub(super) latency: Duration,
    pub(super) connect_latency: Duration,
    world: Mutex<World>,
    log: Mutex<Log>,
    on_message: Mutex<OnMessage>,
    connections: AtomicU64,
    changes: watch::Sender<u64>,
}

/// Handle to a running sandbox in this process. Cheap to clone; does not keep the sandbox running.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in one request must not break the others.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Returns the origin of both services: `http://127.0.0.1:PORT`, or https with TLS.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Returns the variables that point a client here, in the order they are printed.
    pub fn environment(&self) -> Variables {
        self.0.variables.clone()
    }

    /// Returns the current time on the sandbox's clock.
    pub fn now(&self) -> SimTime {
        let passed = self.0.started.elapsed().mul_f64(self.0.speed).as_millis();
        SimTime(self.0.start.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
    }

    /// Runs `look` on the world, between two requests.
    pub fn with_world<R>(&self, look: impl FnOnce(&mut World, SimTime) -> R) -> R {
        let mut world = lock(&self.0.world);
        // Read under the lock, so the world never sees its clock go back.
        let now = self.now();
        look(&mut world, now)
    }

    /// Waits until `look` returns `Some`. Calls it after every change and every 25 ms.
    pub async fn until<R>(&self, mut look: impl FnMut(&mut World, SimTime) -> Option<R>) -> R {
        loop {
            if let Some(found) = self.with_world(&mut look) {
                return found;
            }
            self.changed_within(Duration::from_millis(25)).await;
        }
    }

    /// Returns every request so far, with secrets replaced.
    pub fn log(&self) -> Vec<LogLine> {
        lock(&self.0.log).lines().to_vec()
    }

    /// Returns the number of TCP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Wakes the tasks that wait in [`Handle::changed_within`].
    pub(super) fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    pub(super) async fn changed_within(&self, limit: Duration) {
        let mut changes = self.0.changes.subscribe();
        let _ = tokio::time::timeout(limit, changes.changed()).await;
    }

    pub(super) fn remark(&self, text: &str) {
        (lock(&self.0.on_message))(text);
    }

    /// Answers one request and logs it before any byte of the response is sent.
    pub(super) fn answer(&self, request: &Request<Bytes>, port: u16) -> (Reply, SimTime) {
        let (reply, now) = self.with_world(|world, now| (world.answer(now, request), now));
        let written = lock(&self.0.log).note(now, request, port, &reply);
        if let Err(failure) = written {
            self.remark(&format!("The request log cannot be written: {failure}"));
        }
        self.changed();
        (reply, now)
    }
}

/// A sandbox on the current tokio runtime. Dropping it stops it.
pub struct Sandbox {
    handle: Handle,
    work: [JoinHandle<()>; 2],
    /// Keeps the CA file until the sandbox is dropped.
    _tls: Option<Tls>,
}

impl std::ops::Deref for Sandbox {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Sandbox {
    /// Ends every connection and notebook, and waits until they are gone.
    pub async fn stop(mut self) {
        for work in &mut self.work {
            work.abort();
            // The only error here is the requested cancellation.
            let _ = work.await;
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for work in &self.work {
            work.abort();
        }
    }
}

/// Starts the sandbox on the current tokio runtime.
pub async fn start(options: Options) -> Result<Sandbox, StartError> {
    let Options {
        port,
        tls,
        latency,
        connect_latency,
        speed,
        faults,
        log,
        exchanges,
        env_file,
        python,
        search_path,
        python_environment,
        seed,
        on_message,
    } = options;
    if !(speed > 0.0 && speed <= FASTEST) {
        return Err(StartError::Speed(speed));
    }
    for rule in &faults {
        refuse(rule)?;
    }
    let port = port.unwrap_or(0);
    let failed = |source| StartError::Port { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
    let tls = tls.map(Tls::make).transpose().map_err(StartError::System)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", listener.local_addr().map_err(failed)?);
    let authority = tls.as_ref().map(Tls::file);

    let tokens = [seed.databricks_token.clone(), seed.dbt_token.clone()];
    let variables = environment::variables(&origin, authority.as_deref(), &seed);
    let mut log = match log {
        Some(path) => Log::at(&path, &tokens).map_err(|source| StartError::File { path, source })?,
        None => Log::in_memory(&tokens),
    };
    if let Some(path) = exchanges {
        log.keep_exchanges(&path).map_err(|source| StartError::File { path, source })?;
    }
    let start = seed.start;
    let mut world = World::new(seed);
    world.set_origin(origin.clone());
    for rule in faults {
        world.add_fault(rule);
    }
    let handle = Handle(Arc::new(Shared {
        origin,
        variables,
        authority,
        started: Instant::now(),
        start,
        speed,
        latency,
        connect_latency,
        world: Mutex::new(world),
        log: Mutex::new(log),
        on_message: Mutex::new(on_message),
        connections: AtomicU64::new(0),
        changes: watch::Sender::new(0),
    }));
    // Written last, so a script that waits for the file finds the sandbox listening.
    if let Some(path) = env_file {
        environment::write(&path, &handle.0.variables).map_err(|source| StartError::File { path, source })?;
    }
    let search = PythonSearch { python, search_path, environment: python_environment };
    let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
    Ok(Sandbox {
        work: [
            tokio::spawn(accept(listener, acceptor, handle.clone())),
            tokio::spawn(notebook::serve(handle.clone(), search)),
        ],
        handle,
        _tls: tls,
    })
}

fn refuse(rule: &FaultRule) -> Result<(), StartError> {
    let refused = |reason| Err(StartError::Fault { rule: rule.to_string(), reason });
    if !rule.class().on_sockets() {
        return refused("it strikes before a connection is there, so a listening sandbox cannot show it");
    }
    if !World::operations().any(|operation| rule.matches(operation)) {
        return refused("there is no such operation; the log (--log) names the operation of each request");
    }
    let kills = matches!(rule.class(), FaultKind::Cut(Cut::Kill | Cut::KillDuring));
    if kills && !peer::CAN_FIND {
        return refused("the calling process can only be found on Linux");
    }
    Ok(())
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, handle: Handle) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                handle.0.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(stream::serve(stream, peer, tls.clone(), handle.clone()));
            }
            // The client disconnected, or no file descriptor is left; a later accept may succeed.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A sandbox on its own thread and runtime, for tests and for programs that run another program against it. Dropping it
/// stops it.
pub struct Background {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::ops::Deref for Background {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Background {
    /// Starts the sandbox and returns once it is listening.
    pub fn start(options: Options) -> Result<Background, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::System)?;
        let (stop, stopped) = oneshot::channel();
        let (tell, started) = std::sync::mpsc::sync_channel(1);
        let work = move || {
            runtime.block_on(async move {
                match start(options).await {
                    Ok(sandbox) => {
                        let _ = tell.send(Ok(sandbox.handle.clone()));
                        let _ = stopped.await;
                        sandbox.stop().await;
                    }
                    Err(failure) => {
                        let _ = tell.send(Err(failure));
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn(work).map_err(StartError::System)?;
        let handle = started
            .recv()
            .map_err(|_| StartError::System(std::io::Error::other("the sandbox's thread ended early")))??;
        Ok(Background { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in that thread has already been reported there.
            let _ = thread.join();
        }
    }
}
