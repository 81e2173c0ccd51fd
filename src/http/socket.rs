//! The transport over real sockets.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use reqwest::tls::TlsInfo;

use super::ahead::Ahead;
use super::intake::Intake;
use super::transport::{Lane, Limits, Net, NetKind, PeerCertificate, Pending, Transport, WireError};

/// Real connections: one client that keeps them, and one that uses each once.
///
/// The second is a client of its own because a kept connection is re-sent on silently by the layer below.
pub(crate) struct Sockets {
    pooled: reqwest::Client,
    fresh: reqwest::Client,
    origin: url::Url,
    pooled_ahead: Ahead,
    fresh_ahead: Ahead,
}

/// Certificates that are trusted beside the system's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots(Vec<reqwest::Certificate>);

impl Roots {
    /// Adds the certificates of a file in PEM.
    ///
    /// # Errors
    /// There is none in it, or one that nothing can be checked with.
    pub(crate) fn add(&mut self, pem: &[u8]) -> Result<(), String> {
        let found = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| last_cause(&error))?;
        if found.is_empty() {
            return Err("no certificate in PEM stands in it (-----BEGIN CERTIFICATE-----)".to_owned());
        }
        // Looked into here, where the file's name is known: a client that cannot be made later says only that.
        reqwest::Client::builder().tls_certs_only(found.clone()).build().map_err(|error| last_cause(&error))?;
        self.0.extend(found);
        Ok(())
    }
}

fn last_cause(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl Sockets {
    /// Clients for one origin.
    ///
    /// # Errors
    /// The system's certificates cannot be loaded.
    pub(crate) fn new(origin: &url::Url, connect: Duration, roots: &Roots) -> Result<Sockets, reqwest::Error> {
        let builder = || {
            let builder = reqwest::Client::builder()
                .http1_only()
                .tls_certs_merge(roots.0.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(connect);
            if is_here(origin) { builder.no_proxy() } else { builder }
        };
        let (pooled_ahead, fresh_ahead) = (Ahead::default(), Ahead::default());
        let pooled = builder().connector_layer(pooled_ahead.clone());
        let fresh = builder().connector_layer(fresh_ahead.clone()).pool_max_idle_per_host(0).tls_info(true);
        let (pooled, fresh) = (pooled.build()?, fresh.build()?);
        Ok(Sockets { pooled, fresh, origin: origin.clone(), pooled_ahead, fresh_ahead })
    }
}

/// A proxy for the outside world knows nothing of this machine's own addresses. The name may stand for them here: it is spoken
/// to over https only.
pub(super) fn is_here(origin: &url::Url) -> bool {
    crate::origin::is_loopback(origin) || origin.host_str() == Some("localhost")
}

impl Transport for Sockets {
    fn send(&self, request: Request<Bytes>, limits: Limits, lane: Lane) -> Pending<'_> {
        Box::pin(async move {
            let client = match lane {
                Lane::Pooled => &self.pooled,
                Lane::Fresh => &self.fresh,
            };
            let mut request = reqwest::Request::try_from(request)
                .map_err(|error| WireError::NotSent(Net::new(NetKind::Connect, error.to_string())))?;
            if lane == Lane::Fresh {
                request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            let mut answer = client.execute(request).await.map_err(|error| classify(&error))?;
            let mut body = Intake::new(limits);
            while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&error))? {
                body.push(&chunk)?;
            }
            let mut whole = Response::new(body.done());
            *whole.status_mut() = answer.status();
            *whole.headers_mut() = answer.headers().clone();
            if let Some(der) = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate) {
                whole.extensions_mut().insert(PeerCertificate(Bytes::copy_from_slice(der)));
            }
            Ok(whole)
        })
    }

    fn open_ahead(&self, lane: Lane, count: usize) {
        let ahead = match lane {
            Lane::Pooled => &self.pooled_ahead,
            Lane::Fresh => &self.fresh_ahead,
        };
        for _ in 0..count {
            // The client that never looks for an idle connection: it would send the request that stands for none.
            ahead.open(&self.fresh, &self.origin);
        }
    }
}

/// What the library's error means for us: was anything sent, and what is wrong.
fn classify(error: &reqwest::Error) -> WireError {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    let text = chain.join(": ").to_ascii_lowercase();
    // The last cause is the system's own; the ones above repeat the address.
    let detail = chain.last().cloned().unwrap_or_default();
    if !error.is_connect() {
        let kind = if error.is_timeout() { NetKind::Timeout } else { NetKind::Broken };
        return WireError::Lost(Net::new(kind, detail));
    }
    let kind = if error.is_timeout() {
        NetKind::ConnectTimeout
    } else if text.contains("dns error") || text.contains("failed to lookup") {
        NetKind::Name
    } else if text.contains("certificate") {
        NetKind::Certificate
    } else if text.contains("proxy") || text.contains("tunnel") {
        NetKind::Proxy
    } else if text.contains("tls")
        || text.contains("handshake")
        || text.contains("invalid message")
        || text.contains("corrupt message")
    {
        NetKind::Tls
    } else {
        NetKind::Connect
    };
    WireError::NotSent(Net::new(kind, detail))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn sent(origin: &str, cap: usize) -> Result<Response<Bytes>, WireError> {
        let origin = url::Url::parse(origin).unwrap();
        let sockets = Sockets::new(&origin, Duration::from_secs(10), &Roots::default()).unwrap();
        let request = Request::get(origin.as_str()).body(Bytes::new()).unwrap();
        sockets.send(request, Limits { attempt: Duration::from_secs(10), cap, longest_text: None }, Lane::Fresh).await
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_found_is_told_from_a_connection_that_is_refused() {
        // Longer than a label may be, so no resolver asks anybody.
        let name = sent(&format!("http://{}.invalid", "a".repeat(70)), 9).await;
        assert!(matches!(&name, Err(WireError::NotSent(net)) if net.kind == NetKind::Name), "{name:?}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = sent(&format!("http://127.0.0.1:{port}"), 9).await;
        assert!(matches!(&refused, Err(WireError::NotSent(net)) if net.kind == NetKind::Connect), "{refused:?}");
    }

    /// Answers each request with how many connections there were and which of them this is, and closes idle ones on demand.
    async fn counting() -> (String, std::rc::Rc<std::cell::Cell<usize>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = accepted.clone();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let number = counted.get();
                tokio::task::spawn_local(async move {
                    let mut request = [0; 512];
                    while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                        assert!(request.starts_with(b"POST "), "only what was asked for is sent");
                        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                        let _ = stream.write_all(text.as_bytes()).await;
                    }
                });
            }
        });
        (format!("http://127.0.0.1:{port}"), accepted)
    }

    #[tokio::test]
    async fn connections_opened_ahead_carry_the_first_requests_and_nothing_before_them() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let (origin, accepted) = counting().await;
                let origin = url::Url::parse(&origin).unwrap();
                let sockets = Sockets::new(&origin, Duration::from_secs(10), &Roots::default()).unwrap();
                let send = async |lane| {
                    let request = Request::post(origin.as_str()).body(Bytes::new()).unwrap();
                    let limits = Limits { attempt: Duration::from_secs(10), cap: 9, longest_text: None };
                    let answer = sockets.send(request, limits, lane).await.unwrap();
                    String::from_utf8(answer.body().to_vec()).unwrap().parse::<usize>().unwrap()
                };
                sockets.open_ahead(Lane::Fresh, 1);
                sockets.open_ahead(Lane::Pooled, 2);
                let (first, second) = tokio::join!(send(Lane::Pooled), send(Lane::Pooled));
                assert_ne!(first, second);
                assert_eq!(accepted.get(), 3, "no other connection was opened");
                let alone = send(Lane::Fresh).await;
                assert_eq!(first + second + alone, 6, "each of them was used");
                assert_eq!(accepted.get(), 3);
                assert!([first, second].contains(&send(Lane::Pooled).await), "kept ones are used again");
                assert_eq!(send(Lane::Fresh).await, 4, "a fresh one carries one request");
                // Opened, and then not needed for long: too old to be trusted with what is sent once.
                sockets.open_ahead(Lane::Fresh, 1);
                while accepted.get() < 5 {
                    tokio::task::yield_now().await;
                }
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(5)).await;
                tokio::time::resume();
                assert_eq!(send(Lane::Fresh).await, 6);
            })
            .await;
    }

    #[tokio::test]
    async fn what_cannot_be_opened_ahead_is_told_by_the_request() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = url::Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let sockets = Sockets::new(&origin, Duration::from_secs(10), &Roots::default()).unwrap();
        for lane in [Lane::Pooled, Lane::Fresh] {
            sockets.open_ahead(lane, 2);
            let request = Request::get(origin.as_str()).body(Bytes::new()).unwrap();
            let refused = sockets
                .send(request, Limits { attempt: Duration::from_secs(10), cap: 9, longest_text: None }, lane)
                .await;
            assert!(matches!(&refused, Err(WireError::NotSent(net)) if net.kind == NetKind::Connect), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_cap() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789").await;
            }
        });
        let origin = format!("http://127.0.0.1:{port}");
        assert_eq!(sent(&origin, 9).await.unwrap().body().len(), 9);
        let large = sent(&origin, 8).await;
        assert!(matches!(&large, Err(WireError::TooLarge)), "{large:?}");
    }

    #[test]
    fn a_file_without_a_usable_certificate_is_no_bundle() {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        for (pem, reason) in [
            (String::new(), "no certificate"),
            ("not a certificate".to_owned(), "no certificate"),
            (format!("{begin}AAAA\n{end}"), "BadEncoding"),
            (format!("{begin}!!!!\n{end}"), ""),
        ] {
            let refused = Roots::default().add(pem.as_bytes()).expect_err(&pem);
            assert!(refused.contains(reason), "{pem}: {refused}");
        }
    }
}
