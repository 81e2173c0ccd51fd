//! The transport over real sockets.

use std::cell::OnceCell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::body::BodyReader;
use super::preconnect::Preconnected;
use super::transport::{Lane, Limits, Net, NetKind, Pending, Transport, WireError};

/// One client with a connection pool, and one that opens a connection per request.
///
/// The second exists because hyper silently resends on a pooled connection that was closed.
pub(crate) struct Sockets {
    pooled: reqwest::Client,
    fresh: reqwest::Client,
    /// Whether requests go through a proxy.
    proxied: bool,
    origin: url::Url,
    preconnected_pooled: Preconnected,
    preconnected_fresh: Preconnected,
}

/// The system's certificates and those added by the user.
///
/// Clones share the TLS configuration: reading a few hundred certificate files for each client took a third of a short
/// command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    added: Vec<CertificateDer<'static>>,
    tls: Rc<OnceCell<ClientConfig>>,
}

impl Roots {
    /// Adds the certificates of a PEM file.
    ///
    /// # Errors
    /// Returns the reason if the file contains no certificate, or an invalid one.
    pub(crate) fn add(&mut self, pem: &[u8]) -> Result<(), String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|error| error.to_string())?;
        if found.is_empty() {
            return Err("it contains no PEM certificate (-----BEGIN CERTIFICATE-----)".to_owned());
        }
        // Validate here, where the file is known: the verifier would not say which file is wrong.
        let mut store = RootCertStore::empty();
        for certificate in &found {
            store.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        self.added.extend(found);
        self.tls = Rc::default();
        Ok(())
    }

    /// The TLS configuration for this origin. Without TLS, the system's certificates are not read.
    fn tls(&self, origin: &url::Url) -> Result<ClientConfig, rustls::Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        if origin.scheme() != "https" {
            return Ok(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        }
        let verifier = Verifier::new_with_extra_roots(self.added.iter().cloned(), provider)?;
        let mut tls = tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.tls.get_or_init(|| tls).clone())
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
    /// Creates the clients for one origin.
    ///
    /// # Errors
    /// Returns an error if the system's certificates cannot be loaded.
    pub(crate) fn new(origin: &url::Url, connect: Duration, roots: &Roots) -> Result<Sockets, Box<dyn Error>> {
        Sockets::through(None, origin, connect, roots)
    }

    /// Creates the clients for one origin, through `proxy` or else the system's proxy.
    fn through(
        proxy: Option<&reqwest::Proxy>,
        origin: &url::Url,
        connect: Duration,
        roots: &Roots,
    ) -> Result<Sockets, Box<dyn Error>> {
        let tls = roots.tls(origin)?;
        let builder = || {
            let builder = reqwest::Client::builder()
                .http1_only()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(connect);
            match proxy {
                Some(proxy) => builder.proxy(proxy.clone()),
                None if is_here(origin) => builder.no_proxy(),
                None => builder,
            }
        };
        let proxied = proxy.is_some() || is_proxied(origin);
        let (preconnected_pooled, preconnected_fresh) = (Preconnected::default(), Preconnected::default());
        let pooled = builder().connector_layer(preconnected_pooled.clone());
        let fresh = builder().connector_layer(preconnected_fresh.clone()).pool_max_idle_per_host(0);
        let (pooled, fresh) = (pooled.build()?, fresh.build()?);
        Ok(Sockets { pooled, fresh, proxied, origin: origin.clone(), preconnected_pooled, preconnected_fresh })
    }
}

/// Whether the origin is this machine, which a proxy cannot reach. `localhost` need not be a loopback address, so it is
/// accepted with https only.
pub(super) fn is_here(origin: &url::Url) -> bool {
    crate::origin::is_loopback(origin) || origin.host_str() == Some("localhost")
}

/// Whether a proxy applies to requests to this origin, as found by the code that reqwest uses.
pub(crate) fn is_proxied(origin: &url::Url) -> bool {
    let found = origin.as_str().parse().ok().and_then(|uri| Matcher::from_system().intercept(&uri));
    !is_here(origin) && found.is_some()
}

impl Transport for Sockets {
    fn send(&self, request: Request<Bytes>, limits: Limits, lane: Lane) -> Pending<'_> {
        Box::pin(async move {
            let client = match lane {
                Lane::Pooled => &self.pooled,
                Lane::Fresh => &self.fresh,
            };
            let mut request = reqwest::Request::try_from(request)
                .map_err(|error| WireError::NotSent(Net::new(NetKind::Connect, last_cause(&error.without_url()))))?;
            if lane == Lane::Fresh {
                request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            let lost = |error| classify(error, self.origin.scheme() == "https", self.proxied);
            let mut answer = client.execute(request).await.map_err(lost)?;
            let mut body = BodyReader::new(limits);
            while let Some(chunk) = answer.chunk().await.map_err(lost)? {
                body.push(&chunk)?;
            }
            let mut whole = Response::new(body.done());
            *whole.status_mut() = answer.status();
            *whole.headers_mut() = answer.headers().clone();
            Ok(whole)
        })
    }

    fn preconnect(&self, lane: Lane, count: usize) {
        let preconnected = match lane {
            Lane::Pooled => &self.preconnected_pooled,
            Lane::Fresh => &self.preconnected_fresh,
        };
        for _ in 0..count {
            // The client without a pool: a pooled one might send the placeholder request over an idle connection.
            preconnected.open(&self.fresh, &self.origin);
        }
    }
}

/// Maps a reqwest error: was anything sent, and what is wrong. Decides by type only, because messages quote names and
/// paths from elsewhere.
fn classify(error: reqwest::Error, secure: bool, proxied: bool) -> WireError {
    // The last cause is the system's error. Without one, reqwest's own message follows, which quotes the URL.
    let error = error.without_url();
    let detail = last_cause(&error);
    if !error.is_connect() {
        let kind = if error.is_timeout() { NetKind::Timeout } else { NetKind::Broken };
        return WireError::Lost(Net::new(kind, detail));
    }
    let causes = causes(&error);
    let of_tls = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    // rustls rejects names that are too long for DNS.
    let no_name = error.is_dns() || causes.iter().any(|cause| cause.is::<rustls::pki_types::InvalidDnsNameError>());
    let hung_up = causes.iter().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(hangs_up));
    let kind = match of_tls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidCertRevocationList(_)) => {
            NetKind::Certificate
        }
        Some(_) => NetKind::Tls,
        None if error.is_timeout() => NetKind::ConnectTimeout,
        // The proxy resolves and connects to the host.
        None if proxied => NetKind::Proxy,
        None if no_name => NetKind::Name,
        None if secure && hung_up => NetKind::Tls,
        None => NetKind::Connect,
    };
    WireError::NotSent(Net::new(kind, detail))
}

/// The error and all its causes. `io::Error::source` skips the error that it wraps, so get it with `get_ref`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut found = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        found.push(cause);
        let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => cause.source(),
        };
    }
    found
}

/// Whether the server closed the connection during the TLS handshake.
fn hangs_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::InvalidData
    )
}

/// Returns an address that refuses connections, and what keeps others from listening there.
#[cfg(test)]
pub(crate) fn refusing() -> (tokio::net::TcpSocket, std::net::SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
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

    /// A path and a host name with every word that the libraries use in their error messages.
    const PATH: &str = "/certificate/proxy%20load/tls/dns%20error/failed%20to%20lookup/tunnel/handshake/timeout";
    const LABEL: &str = "certificate.proxy.tls.dns-error.tunnel.handshake";

    #[derive(Clone, Copy)]
    enum Peer {
        /// Refuses connections.
        Refuses,
        /// Closes the connection on the first bytes.
        HangsUp,
        /// Resets the connection on the first bytes.
        Resets,
        /// Responds with this to anything.
        Says(&'static [u8]),
        /// Has an untrusted certificate for this name.
        Certified(&'static str),
    }

    async fn peer(peer: Peer) -> u16 {
        if matches!(peer, Peer::Refuses) {
            let (port, origin) = super::refusing();
            tokio::spawn(async move {
                let _port = port;
                std::future::pending::<()>().await;
            });
            return origin.port();
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = match peer {
            Peer::Certified(name) => {
                let key = rcgen::KeyPair::generate().unwrap();
                let made = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
                let config =
                    rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
                let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
                let config = config.with_single_cert(vec![made.der().clone()], key.into()).unwrap();
                Some(tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)))
            }
            Peer::Refuses | Peer::HangsUp | Peer::Resets | Peer::Says(_) => None,
        };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(acceptor) = &acceptor {
                    let _ = acceptor.accept(stream).await;
                    continue;
                }
                let _ = stream.read(&mut [0; 4096]).await;
                match peer {
                    Peer::Says(words) => {
                        let _ = stream.write_all(words).await;
                    }
                    Peer::Resets => stream.set_zero_linger().unwrap(),
                    Peer::Refuses | Peer::HangsUp | Peer::Certified(_) => {}
                }
            }
        });
        port
    }

    #[expect(clippy::print_stdout, reason = "the figure")]
    #[tokio::test]
    async fn what_goes_wrong_is_told_by_its_type_whatever_words_the_address_has() {
        let long = format!("{LABEL}.{}.invalid", "a".repeat(70));
        let http = &b"HTTP/1.1 400 certificate proxy tls tunnel\r\n\r\n"[..];
        let cases: Vec<(&str, String, Option<Peer>, NetKind)> = vec![
            // Longer than a DNS label may be, so no resolver is queried.
            ("http", format!("http://{long}{PATH}"), None, NetKind::Name),
            ("https", format!("https://{long}{PATH}"), None, NetKind::Name),
            ("http", format!("http://127.0.0.1:{}{PATH}", peer(Peer::Refuses).await), None, NetKind::Connect),
            ("https", format!("https://127.0.0.1:{}{PATH}", peer(Peer::Refuses).await), None, NetKind::Connect),
            ("http", format!("http://127.0.0.1:{}{PATH}", peer(Peer::HangsUp).await), None, NetKind::Broken),
            ("http", format!("http://127.0.0.1:{}{PATH}", peer(Peer::Resets).await), None, NetKind::Broken),
            ("https", format!("https://127.0.0.1:{}{PATH}", peer(Peer::HangsUp).await), None, NetKind::Tls),
            ("https", format!("https://127.0.0.1:{}{PATH}", peer(Peer::Resets).await), None, NetKind::Tls),
            ("https", format!("https://127.0.0.1:{}{PATH}", peer(Peer::Says(http)).await), None, NetKind::Tls),
            (
                "https",
                format!("https://127.0.0.1:{}{PATH}", peer(Peer::Certified("127.0.0.1")).await),
                None,
                NetKind::Certificate,
            ),
            (
                "https",
                format!("https://localhost:{}{PATH}", peer(Peer::Certified("proxy.tunnel")).await),
                None,
                NetKind::Certificate,
            ),
            ("https", format!("https://{LABEL}.example{PATH}"), Some(Peer::Refuses), NetKind::Proxy),
            ("https", format!("https://{LABEL}.example{PATH}"), Some(Peer::HangsUp), NetKind::Proxy),
            ("https", format!("https://{LABEL}.example{PATH}"), Some(Peer::Says(http)), NetKind::Proxy),
            (
                "https",
                format!("https://{LABEL}.example{PATH}"),
                Some(Peer::Says(b"HTTP/1.1 407 certificate tls\r\n\r\n")),
                NetKind::Proxy,
            ),
            (
                "https",
                format!("https://{LABEL}.example{PATH}"),
                Some(Peer::Says(b"HTTP/1.1 200 OK\r\n\r\nno TLS behind it")),
                NetKind::Proxy,
            ),
        ];
        let mut held = 0;
        for (scheme, address, through, expected) in &cases {
            let url = url::Url::parse(address).unwrap();
            let proxy = match through {
                Some(through) => {
                    let port = peer(*through).await;
                    Some(reqwest::Proxy::all(format!("http://127.0.0.1:{port}")).unwrap())
                }
                None => None,
            };
            let sockets = Sockets::through(proxy.as_ref(), &url, Duration::from_secs(10), &Roots::default()).unwrap();
            let request = Request::get(url.as_str()).body(Bytes::new()).unwrap();
            let limits = Limits { attempt: Duration::from_secs(10), cap: 9, longest_text: None };
            let found = sockets.send(request, limits, Lane::Fresh).await;
            let Err(WireError::NotSent(net) | WireError::Lost(net)) = &found else { panic!("{address}: {found:?}") };
            assert_eq!(net.kind, *expected, "{scheme} {address}: {net:?}");
            let sent = matches!(found, Err(WireError::Lost(_)));
            assert_eq!(sent, *expected == NetKind::Broken, "{address}: {net:?}");
            assert!(!net.detail.contains("dns%20error") && !net.detail.contains("http"), "{address}: {net:?}");
            held += 1;
        }
        println!("transport errors: {held} of {}", cases.len());
    }

    /// Starts a server that answers each request with the number of its connection. Returns its origin and the count of
    /// accepted connections.
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
                sockets.preconnect(Lane::Fresh, 1);
                sockets.preconnect(Lane::Pooled, 2);
                let (first, second) = tokio::join!(send(Lane::Pooled), send(Lane::Pooled));
                assert_ne!(first, second);
                assert_eq!(accepted.get(), 3, "no other connection was opened");
                let alone = send(Lane::Fresh).await;
                assert_eq!(first + second + alone, 6, "each of them was used");
                assert_eq!(accepted.get(), 3);
                assert!([first, second].contains(&send(Lane::Pooled).await), "kept ones are used again");
                assert_eq!(send(Lane::Fresh).await, 4, "a fresh one carries one request");
                // Opened ahead and idle for too long to be used.
                sockets.preconnect(Lane::Fresh, 1);
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
        let (_port, address) = super::refusing();
        let origin = url::Url::parse(&format!("http://{address}")).unwrap();
        let sockets = Sockets::new(&origin, Duration::from_secs(10), &Roots::default()).unwrap();
        for lane in [Lane::Pooled, Lane::Fresh] {
            sockets.preconnect(lane, 2);
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
            (String::new(), "it contains no PEM certificate (-----BEGIN CERTIFICATE-----)"),
            ("not a certificate".to_owned(), "it contains no PEM certificate (-----BEGIN CERTIFICATE-----)"),
            (format!("{begin}AAAA\n{end}"), "BadEncoding"),
            (format!("{begin}!!!!\n{end}"), ""),
        ] {
            let refused = Roots::default().add(pem.as_bytes()).expect_err(&pem);
            assert!(refused.contains(reason), "{pem}: {refused}");
        }
    }
}
