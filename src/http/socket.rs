//! The transport over real sockets.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use reqwest::tls::TlsInfo;

use super::intake::Intake;
use super::transport::{Lane, Limits, Net, NetKind, PeerCertificate, Pending, Transport, WireError};

/// Real connections: one client that keeps them, and one that uses each once.
///
/// The second is a client of its own because a kept connection is re-sent on silently by the layer below.
pub(crate) struct Sockets {
    pooled: reqwest::Client,
    fresh: reqwest::Client,
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
        let fresh = builder().pool_max_idle_per_host(0).tls_info(true);
        Ok(Sockets { pooled: builder().build()?, fresh: fresh.build()? })
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
