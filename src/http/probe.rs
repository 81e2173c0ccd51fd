//! Tells whether a host can be reached.

use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use jiff::Timestamp;
use tokio::time::timeout;
use url::Url;

use super::retry::date;
use super::transport::{Lane, Limits, Net, NetKind, Transport, WireError};
use crate::durations::shown;

/// Timeout of the whole probe.
const ANSWER: Duration = Duration::from_secs(30);

/// Sends a HEAD request without a credential. Any response will do; returns the host's clock, from its `Date` header.
pub(crate) async fn probe(origin: &Url, transport: &dyn Transport, user_agent: &str) -> Result<Option<Timestamp>, Net> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = origin.as_str().parse().expect("an origin is a valid URI");
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_str(user_agent).expect("our own name is printable"));
    let limits = Limits { attempt: ANSWER, cap: 1 << 16, longest_text: None };
    match timeout(limits.attempt, transport.send(request, limits, Lane::Fresh)).await {
        Ok(Ok(answer)) => Ok(answer.headers().get(DATE).and_then(|value| date(value.to_str().ok()?))),
        Ok(Err(WireError::TooLarge)) => Ok(None),
        Ok(Err(WireError::Lost(net) | WireError::NotSent(net))) => Err(net),
        Err(_) => Err(Net::new(NetKind::Timeout, shown(limits.attempt))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::socket::{Roots, Sockets};
    use super::*;

    async fn probed(origin: &str) -> Result<Option<Timestamp>, NetKind> {
        let origin = Url::parse(origin).unwrap();
        let transport = Sockets::new(&origin, Duration::from_secs(10), &Roots::default()).unwrap();
        probe(&origin, &transport, "dbtrigger/test").await.map_err(|net| net.kind)
    }

    /// Starts a server that gives every request the same response, or hangs up if it is empty.
    async fn answering(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_host_that_answers_is_reachable_whatever_it_answers() {
        for status in ["200 OK", "301 Moved\r\nLocation: https://elsewhere.invalid/", "401 Unauthorized"] {
            let text = format!("HTTP/1.1 {status}\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n");
            let port = answering(text.leak().as_bytes()).await;
            let clock = probed(&format!("http://127.0.0.1:{port}")).await.unwrap().unwrap();
            assert_eq!(clock.to_string(), "2026-10-21T07:28:00Z");
        }
    }

    #[tokio::test]
    async fn each_way_of_not_answering_has_its_kind() {
        let (_port, closed) = super::super::refusing();
        // Longer than a DNS label may be, so no resolver is queried.
        let unknown = format!("https://{}.invalid", "a".repeat(70));
        assert_eq!(probed(&unknown).await, Err(NetKind::Name));
        assert_eq!(probed(&format!("https://{closed}")).await, Err(NetKind::Connect));
        let no_tls = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(probed(&format!("https://127.0.0.1:{no_tls}")).await, Err(NetKind::Tls));
        assert_eq!(probed(&format!("http://127.0.0.1:{}", answering(b"").await)).await, Err(NetKind::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_never_answers_is_given_up() {
        // The kernel accepts the connection.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probed(&format!("http://127.0.0.1:{port}")).await, Err(NetKind::Timeout));
        assert_eq!(probed(&format!("https://127.0.0.1:{port}")).await, Err(NetKind::ConnectTimeout));
    }
}
