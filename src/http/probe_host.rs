//! Probes a host step by step, to report which step fails.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_ok;
use http::header::{DATE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use hyper_util::client::proxy::matcher::Matcher;
use jiff::Timestamp;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::certificate::valid_until;
use super::retry::date;
use super::socket::is_here;
use super::transport::{Lane, Limits, Net, NetKind, PeerCertificate, Transport, WireError};

/// Timeout of the HTTP response, once connected.
const ANSWER: Duration = Duration::from_secs(30);

/// The steps, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProbeStep {
    /// The name of the host, or of the proxy, resolves.
    Name,
    /// A TCP connection is accepted.
    Connection,
    /// The proxy connects to the host.
    Proxy,
    /// The certificate is trusted and the handshake succeeds.
    Tls,
    /// The host responds with HTTP.
    Answer,
}

/// A proxy, such as `http://proxy.example:3128`. Its credentials are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    scheme: String,
    host: String,
    port: u16,
}

impl Proxy {
    /// The proxy for requests to this origin, as found by the code that reqwest uses.
    pub(crate) fn on_the_way_to(origin: &Url) -> Option<Proxy> {
        if is_here(origin) {
            return None;
        }
        let found = Matcher::from_system().intercept(&origin.as_str().parse().ok()?)?;
        let scheme = found.uri().scheme_str().unwrap_or("http").to_owned();
        let port = found.uri().port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some(Proxy { host: found.uri().host()?.trim_matches(['[', ']']).to_owned(), scheme, port })
    }

    #[cfg(test)]
    pub(crate) fn of(scheme: &str, host: &str, port: u16) -> Proxy {
        Proxy { scheme: scheme.to_owned(), host: host.to_owned(), port }
    }
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Proxy { scheme, host, port } = self;
        if host.contains(':') {
            return write!(formatter, "{scheme}://[{host}]:{port}");
        }
        write!(formatter, "{scheme}://{host}:{port}")
    }
}

/// How far the probe got, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostProbe {
    pub(crate) proxy: Option<Proxy>,
    /// Addresses of the host, or of the proxy if there is one.
    pub(crate) addresses: Vec<IpAddr>,
    /// The step that failed. Earlier steps succeeded; later ones are unknown.
    pub(crate) broken: Option<(ProbeStep, Net)>,
    /// The host's clock, from its `Date` header.
    pub(crate) date: Option<Timestamp>,
    /// Expiry of the host's certificate.
    pub(crate) valid_until: Option<Timestamp>,
}

/// Probes the host: resolves the name, connects, and sends a HEAD request without a credential through `transport`.
/// `connect` is the timeout of each of the first two steps.
pub(crate) async fn probe_host(
    origin: &Url,
    proxy: Option<Proxy>,
    transport: &dyn Transport,
    user_agent: &str,
    connect: Duration,
) -> HostProbe {
    let mut probe = HostProbe { proxy, ..HostProbe::default() };
    match run_steps(origin, &mut probe, transport, user_agent, connect).await {
        Ok(()) => {}
        Err(broken) => probe.broken = Some(broken),
    }
    probe
}

async fn run_steps(
    origin: &Url,
    probe: &mut HostProbe,
    transport: &dyn Transport,
    user_agent: &str,
    connect: Duration,
) -> Result<(), (ProbeStep, Net)> {
    let late = |kind| Net::new(kind, format!("{} s", connect.as_secs()));
    let (host, port) = match &probe.proxy {
        Some(proxy) => (proxy.host.clone(), proxy.port),
        None => first_address(origin),
    };
    let found = timeout(connect, lookup_host((host.as_str(), port))).await;
    let found = found.map_err(|_| (ProbeStep::Name, Net::new(NetKind::Name, "timed out")))?;
    let places: Vec<_> =
        found.map_err(|error| (ProbeStep::Name, Net::new(NetKind::Name, error.to_string())))?.collect();
    if places.is_empty() {
        return Err((ProbeStep::Name, Net::new(NetKind::Name, "it has no address")));
    }
    probe.addresses = places.iter().map(std::net::SocketAddr::ip).collect();
    // Try all addresses at once, so that an unreachable address family does not delay the other.
    let tries = select_ok(places.into_iter().map(|place| Box::pin(TcpStream::connect(place))));
    match timeout(connect, tries).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err((ProbeStep::Connection, Net::new(NetKind::Connect, error.to_string()))),
        Err(_) => return Err((ProbeStep::Connection, late(NetKind::ConnectTimeout))),
    }
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::HEAD;
    // An origin is made of checked parts.
    *request.uri_mut() = origin.as_str().parse().expect("a checked origin");
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_str(user_agent).expect("our own name is printable"));
    let limits = Limits { attempt: ANSWER, cap: 1 << 16, longest_text: None };
    let secure = origin.scheme() == "https";
    match timeout(limits.attempt, transport.send(request, limits, Lane::Fresh)).await {
        Ok(Ok(answer)) => {
            let certificate = answer.extensions().get::<PeerCertificate>();
            probe.valid_until = certificate.and_then(|PeerCertificate(der)| valid_until(der));
            probe.date = answer.headers().get(DATE).and_then(|value| date(value.to_str().ok()?));
            Ok(())
        }
        // The host responded, just with too much.
        Ok(Err(WireError::TooLarge)) => Ok(()),
        Ok(Err(WireError::Lost(net))) => Err((ProbeStep::Answer, net)),
        Ok(Err(WireError::NotSent(net))) => Err((failed_step(&net, probe.proxy.is_some(), secure), net)),
        Err(_) => Err((ProbeStep::Answer, Net::new(NetKind::Timeout, format!("{} s", limits.attempt.as_secs())))),
    }
}

/// The step that failed, for an error after the first TCP connection succeeded.
fn failed_step(net: &Net, proxied: bool, secure: bool) -> ProbeStep {
    match net.kind {
        NetKind::Certificate | NetKind::Tls => ProbeStep::Tls,
        NetKind::Proxy => ProbeStep::Proxy,
        NetKind::Name | NetKind::Connect | NetKind::ConnectTimeout | NetKind::Broken | NetKind::Timeout => {
            match (proxied, secure) {
                (true, _) => ProbeStep::Proxy,
                (false, true) => ProbeStep::Tls,
                (false, false) => ProbeStep::Connection,
            }
        }
    }
}

/// Host and port, as the system resolver takes them.
fn first_address(origin: &Url) -> (String, u16) {
    let host = match origin.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    (host, origin.port_or_known_default().unwrap_or(443))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket};

    use super::super::socket::{Roots, Sockets};
    use super::*;

    const CONNECT: Duration = Duration::from_secs(10);

    async fn probed(origin: &str, proxy: Option<Proxy>) -> HostProbe {
        let origin = Url::parse(origin).unwrap();
        let transport = Sockets::new(&origin, CONNECT, &Roots::default()).unwrap();
        probe_host(&origin, proxy, &transport, "dbtrigger/test", CONNECT).await
    }

    fn broken(probe: &HostProbe) -> (ProbeStep, NetKind) {
        let (step, net) = probe.broken.as_ref().unwrap_or_else(|| panic!("{probe:?}"));
        (*step, net.kind)
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Starts a server that gives every request the same response.
    async fn answering(answer: &'static [u8]) -> u16 {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut first = [0; 16];
                // The probe's plain TCP connection sends nothing.
                if stream.read(&mut first).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(answer).await;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn a_whole_way_ends_with_the_hosts_own_time_whatever_it_answers() {
        for status in ["200 OK", "301 Moved\r\nLocation: https://elsewhere.invalid/", "401 Unauthorized"] {
            let text = format!("HTTP/1.1 {status}\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n");
            let port = answering(text.leak().as_bytes()).await;
            let probe = probed(&format!("http://127.0.0.1:{port}"), None).await;
            assert_eq!(probe.broken, None);
            assert_eq!(probe.addresses, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
            assert_eq!(probe.date.unwrap().to_string(), "2026-10-21T07:28:00Z");
        }
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_found_breaks_the_first_step() {
        // Longer than a DNS label may be, so no resolver is queried.
        let probe = probed(&format!("https://{}.invalid", "a".repeat(70)), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Name, NetKind::Name));
        assert_eq!(probe.addresses, Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn a_refused_connection_breaks_the_second_step() {
        let (listener, port) = listener().await;
        drop(listener);
        let probe = probed(&format!("https://127.0.0.1:{port}"), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Connection, NetKind::Connect));
        assert_eq!(probe.addresses.len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_host_that_lets_packets_vanish_breaks_the_second_step_when_the_time_is_over() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let place = listener.local_addr().unwrap();
        // Nothing accepts, so the backlog fills up and further connection attempts get no answer.
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_secs(1), TcpStream::connect(place)).await {
            queue.push(stream);
        }
        let begun = tokio::time::Instant::now();
        let probe = probed(&format!("https://{place}"), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Connection, NetKind::ConnectTimeout));
        assert!((CONNECT..CONNECT + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_nobody_answers_breaks_tls_and_not_the_connection() {
        // The kernel accepts.
        let (_listener, port) = listener().await;
        let probe = probed(&format!("https://127.0.0.1:{port}"), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Tls, NetKind::ConnectTimeout));
    }

    #[tokio::test]
    async fn who_speaks_no_tls_breaks_the_step_of_tls() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let probe = probed(&format!("https://127.0.0.1:{}", answering(answer).await), None).await;
            assert_eq!(broken(&probe).0, ProbeStep::Tls, "{probe:?}");
        }
    }

    #[tokio::test]
    async fn who_hangs_up_on_the_question_breaks_the_last_step() {
        let probe = probed(&format!("http://127.0.0.1:{}", answering(b"").await), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Answer, NetKind::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_breaks_the_last_step_when_the_time_is_over() {
        let (_listener, port) = listener().await;
        let probe = probed(&format!("http://127.0.0.1:{port}"), None).await;
        assert_eq!(broken(&probe), (ProbeStep::Answer, NetKind::Timeout));
    }

    #[tokio::test]
    async fn behind_a_proxy_the_first_steps_are_those_to_the_proxy() {
        let proxy = |host: &str, port| Some(Proxy::of("http", host, port));
        let (listener, port) = listener().await;
        drop(listener);
        let probe = probed("https://ab123.us1.dbt.com", proxy("127.0.0.1", port)).await;
        assert_eq!(broken(&probe), (ProbeStep::Connection, NetKind::Connect));
        let probe = probed("https://ab123.us1.dbt.com", proxy(&"a".repeat(70), 3128)).await;
        assert_eq!(broken(&probe), (ProbeStep::Name, NetKind::Name));
    }

    #[test]
    fn what_breaks_behind_the_first_connection_is_told_apart() {
        let at = |kind, proxied, secure| failed_step(&Net::new(kind, ""), proxied, secure);
        assert_eq!(at(NetKind::Certificate, true, true), ProbeStep::Tls);
        assert_eq!(at(NetKind::Proxy, true, true), ProbeStep::Proxy);
        assert_eq!(at(NetKind::ConnectTimeout, true, true), ProbeStep::Proxy);
        assert_eq!(at(NetKind::Connect, false, true), ProbeStep::Tls);
        assert_eq!(at(NetKind::Connect, false, false), ProbeStep::Connection);
    }

    #[test]
    fn a_proxy_is_shown_without_its_password_and_an_address_of_this_machine_has_none() {
        let proxy = Proxy::of("http", "::1", 3128);
        assert_eq!(proxy.to_string(), "http://[::1]:3128");
        for here in ["http://127.0.0.1:1", "https://localhost:1"] {
            assert_eq!(Proxy::on_the_way_to(&Url::parse(here).unwrap()), None);
        }
    }
}
