//! Serves one connection: hyper writes regular responses, and this module writes the ones a fault rule breaks.
//!
//! A broken response is the last thing on its connection: the service function fails, hyper returns the socket without
//! writing anything, and [`break_connection`] does what the fault asks for.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::Handle;
use super::{Cut, Reply, SimTime, peer};

/// Request limit in bytes. Above what both services accept (10 MB per notebook), so the world itself refuses larger
/// ones.
const REQUEST_LIMIT: usize = 64 * 1024 * 1024;

/// Announced length of an endless body, in bytes. It is streamed from one small block.
const HUGE: usize = 1 << 30;

/// Tells hyper that there is no response. What breaks the connection is in the [`Slot`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is spoilt on purpose")]
struct NoAnswer;

type Slot = Arc<Mutex<Option<(Cut, Response<Bytes>)>>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, NoAnswer>> + Send>>;

/// A byte stream, plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The underlying TCP connection.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, handle: Handle) {
    // `drip` needs one segment per byte, and latency is added here, not by the kernel.
    let _ = stream.set_nodelay(true);
    wait(handle.0.connect_latency).await;
    let Some(tls) = tls else {
        return speak(stream, peer, handle).await;
    };
    // A client that does not trust the certificate, or speaks no TLS, learns so from the failed handshake.
    if let Ok(stream) = tls.accept(stream).await {
        speak(stream, peer, handle).await;
    }
}

async fn speak(stream: impl Stream, peer: SocketAddr, handle: Handle) {
    let Ok(local) = stream.tcp().local_addr() else {
        return;
    };
    let slot = Slot::default();
    let service = {
        let (handle, slot) = (handle.clone(), Arc::clone(&slot));
        service_fn(move |request| -> Answering {
            Box::pin(answer(handle.clone(), Arc::clone(&slot), peer.port(), request))
        })
    };
    // Hyper would use the machine's clock for Date; responses use the sandbox's.
    let mut connection = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service);
    let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    let broken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A client that disconnects is not a failure of the sandbox.
    let _ = match broken {
        None => stream.shutdown().await,
        Some((cut, answer)) => break_connection(stream, cut, answer, local, peer, &handle).await,
    };
}

async fn answer(
    handle: Handle,
    slot: Slot,
    port: u16,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, REQUEST_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(failure) if failure.is::<http_body_util::LengthLimitError>() => {
            let mut refused = Response::new(Full::default());
            *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(refused);
        }
        // The client disconnected in the middle of its request: no effect.
        Err(_) => return Err(NoAnswer),
    };
    wait(handle.0.latency / 2).await;
    let (reply, now) = handle.answer(&Request::from_parts(head, body), port);
    wait(handle.0.latency / 2).await;
    match reply {
        Reply::Answer(answer) => Ok(dated(answer, now).map(Full::new)),
        Reply::Broken(cut, answer) => {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((cut, dated(answer, now)));
            Err(NoAnswer)
        }
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn dated(mut answer: Response<Bytes>, now: SimTime) -> Response<Bytes> {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let text = jiff::Timestamp::from_millisecond(now.0).and_then(|now| printer.timestamp_to_rfc9110_string(&now));
    if let Some(value) = text.ok().and_then(|text| HeaderValue::try_from(text).ok()) {
        answer.headers_mut().entry(DATE).or_insert(value);
    }
    answer
}

async fn break_connection(
    mut stream: impl Stream,
    cut: Cut,
    answer: Response<Bytes>,
    local: SocketAddr,
    peer: SocketAddr,
    handle: &Handle,
) -> io::Result<()> {
    match cut {
        // Except for `Reset`, these are refused at start. A reset without a response comes closest.
        Cut::NoName | Cut::Refused | Cut::Blackhole | Cut::Tls | Cut::Reset => reset(stream),
        Cut::Close => stream.shutdown().await,
        Cut::Hang => hold(stream).await,
        Cut::ResetAfterHead => {
            send(&mut stream, answer, |_| 0).await?;
            reset(stream)
        }
        Cut::ResetInBody => {
            send(&mut stream, answer, half).await?;
            reset(stream)
        }
        Cut::Silence => {
            send(&mut stream, answer, |_| 0).await?;
            hold(stream).await
        }
        Cut::Truncated => {
            send(&mut stream, answer, half).await?;
            stream.shutdown().await
        }
        Cut::Drip => {
            let (head, body) = wire(answer, 0);
            for byte in head.bytes().chain(body) {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            stream.shutdown().await
        }
        Cut::Stale => {
            let (head, body) = wire(answer, 0);
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.flush().await?;
            // A client that sends another request gets a reset; one that disconnects sees nothing unusual.
            if stream.read(&mut [0; 1]).await? == 0 { Ok(()) } else { reset(stream) }
        }
        Cut::Huge => huge(&mut stream, answer).await,
        Cut::Kill | Cut::KillDuring => {
            if cut == Cut::KillDuring {
                send(&mut stream, answer, half).await?;
            }
            match peer::kill(local, peer) {
                Ok(()) => hold(stream).await,
                Err(why) => {
                    handle.remark(&format!("The kill rule killed nobody: {why}"));
                    reset(stream)
                }
            }
        }
    }
}

fn half(length: usize) -> usize {
    length / 2
}

/// Sends RST by closing with zero linger.
fn reset(stream: impl Stream) -> io::Result<()> {
    stream.tcp().set_zero_linger()?;
    drop(stream);
    Ok(())
}

/// Keeps the connection open and silent until the client disconnects.
async fn hold(mut stream: impl Stream) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Writes the head and the first `part(length)` bytes of the body. The head announces at least one byte, because an
/// empty response would otherwise be complete.
async fn send(stream: &mut impl Stream, answer: Response<Bytes>, part: fn(usize) -> usize) -> io::Result<()> {
    let (head, body) = wire(answer, 1);
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body[..part(body.len())]).await?;
    stream.flush().await
}

async fn huge(stream: &mut impl Stream, mut answer: Response<Bytes>) -> io::Result<()> {
    *answer.status_mut() = StatusCode::OK;
    let (head, _) = wire(answer, HUGE);
    stream.write_all(head.as_bytes()).await?;
    // Valid JSON so far, so only a length limit stops a parser.
    let opening = b"{\"data\":\"";
    stream.write_all(opening).await?;
    let block = vec![b'x'; 64 * 1024];
    let mut left = HUGE - opening.len();
    while left > 0 {
        let count = left.min(block.len());
        stream.write_all(&block[..count]).await?;
        left -= count;
    }
    stream.shutdown().await
}

/// Returns the head as text, with a content length of at least `announced`, and the body.
fn wire(answer: Response<Bytes>, announced: usize) -> (String, Bytes) {
    let (head, body) = answer.into_parts();
    let mut text =
        format!("HTTP/1.1 {} {}\r\n", head.status.as_str(), head.status.canonical_reason().unwrap_or_default());
    for (name, value) in &head.headers {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            continue;
        }
        let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let _ = write!(text, "content-length: {}\r\n\r\n", body.len().max(announced));
    (text, body)
}
