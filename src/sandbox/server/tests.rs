//! The sandbox from outside: the bytes, FIN and RST that a plain TCP client receives.

use std::time::Duration;

use http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Background, Handle, start};
use crate::sandbox::{Cut, FaultKind, FaultRule, Options, Seed, SimTime, StartError, World};

const DBT: &str = "dbtc_sandbox-token";

fn options() -> Options {
    Options::new(Seed {
        databricks_token: "dapi-sandbox-token".to_owned(),
        dbt_token: DBT.to_owned(),
        start: SimTime(1_800_000_000_000),
        random: 7,
    })
}

fn rule(text: &str) -> FaultRule {
    FaultRule::parse(text).expect("a rule")
}

async fn connect(to: &Handle) -> TcpStream {
    let address = to.origin().strip_prefix("http://").expect("an origin");
    TcpStream::connect(address).await.expect("a connection")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: sandbox\r\nauthorization: Token {DBT}\r\n\r\n")
}

/// How a connection ends for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    /// Silent for two minutes, and still open.
    Open,
}

/// Reads until the connection ends, is silent for two minutes, or has sent 4 MiB.
async fn observe(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        match timeout(Duration::from_mins(2), stream.read(&mut block)).await {
            Ok(Ok(0)) => return (bytes, End::Fin),
            Ok(Ok(count)) => bytes.extend_from_slice(&block[..count]),
            Ok(Err(failure)) => {
                assert_eq!(failure.kind(), std::io::ErrorKind::ConnectionReset);
                return (bytes, End::Reset);
            }
            Err(_) => return (bytes, End::Open),
        }
        if bytes.len() > 4 * 1024 * 1024 {
            return (bytes, End::Open);
        }
    }
}

/// Returns the announced length and the body received.
fn parts(bytes: &[u8]) -> (usize, &[u8]) {
    let middle = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&bytes[..middle]).expect("a head in ASCII");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let announced = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a length")
        .parse()
        .expect("a number");
    (announced, &bytes[middle..])
}

/// What a fault class looks like on the wire. The match is exhaustive, so a new class needs an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    NotOnSockets,
    Kills,
    Nothing(End),
    Head(End),
    Half(End),
    Drip,
    Flood,
    /// A whole response, then RST when the connection is used again.
    Stale,
    /// A whole response, and the connection serves another.
    Whole,
}

fn look_of(class: &FaultKind) -> Look {
    match class {
        FaultKind::Cut(Cut::NoName | Cut::Refused | Cut::Blackhole | Cut::Tls) => Look::NotOnSockets,
        FaultKind::Cut(Cut::Kill | Cut::KillDuring) => Look::Kills,
        FaultKind::Cut(Cut::Reset) => Look::Nothing(End::Reset),
        FaultKind::Cut(Cut::Close) => Look::Nothing(End::Fin),
        FaultKind::Cut(Cut::Hang) => Look::Nothing(End::Open),
        FaultKind::Cut(Cut::ResetAfterHead) => Look::Head(End::Reset),
        FaultKind::Cut(Cut::ResetInBody) => Look::Half(End::Reset),
        FaultKind::Cut(Cut::Silence) => Look::Head(End::Open),
        FaultKind::Cut(Cut::Truncated) => Look::Half(End::Fin),
        FaultKind::Cut(Cut::Drip) => Look::Drip,
        FaultKind::Cut(Cut::Stale) => Look::Stale,
        FaultKind::Cut(Cut::Huge) => Look::Flood,
        FaultKind::Status(_)
        | FaultKind::RetryAfter(_)
        | FaultKind::RetryAfterDate(_)
        | FaultKind::RetryAfterHuge
        | FaultKind::Redirect(_)
        | FaultKind::Login
        | FaultKind::Empty
        | FaultKind::BadUtf8
        | FaultKind::Deep
        | FaultKind::MissingField
        | FaultKind::UnknownStatus
        | FaultKind::NullData
        | FaultKind::WrongType
        | FaultKind::GzipBomb => Look::Whole,
    }
}

/// Time is paused, so two minutes of silence and a slow drip take no real time.
#[tokio::test(start_paused = true)]
async fn every_class_arrives_on_a_real_socket_as_what_it_is() {
    let path = "/api/v2/accounts/51234/";
    let operation = operation_of(path);
    for class in FaultKind::catalogue() {
        let look = look_of(&class);
        let mut options = options();
        options.faults = vec![rule(&format!("{operation}={class}"))];
        match look {
            Look::NotOnSockets => {
                let refused = start(options).await.err().expect("it is refused").to_string();
                assert!(refused.contains(&class.to_string()), "{refused}");
                continue;
            }
            Look::Kills => continue,
            Look::Nothing(_) | Look::Head(_) | Look::Half(_) | Look::Drip | Look::Flood | Look::Stale | Look::Whole => {
            }
        }
        let sandbox = start(options).await.expect("a sandbox");
        let mut client = connect(&sandbox).await;
        let begun = Instant::now();
        client.write_all(get(path).as_bytes()).await.expect("a request");
        if look == Look::Whole {
            whole(&mut client, path, &class).await;
        } else if look == Look::Stale {
            one(&mut client, &class).await;
            client.write_all(get(path).as_bytes()).await.expect("a second request");
            let (bytes, end) = observe(&mut client).await;
            assert_eq!((bytes.len(), end), (0, End::Reset), "{class}");
        } else {
            let (bytes, end) = observe(&mut client).await;
            match look {
                Look::Nothing(wanted) => {
                    assert_eq!((bytes.len(), end), (0, wanted), "{class}");
                }
                Look::Head(wanted) => {
                    let (announced, body) = parts(&bytes);
                    assert!(announced > 0, "{class}");
                    assert_eq!((body.len(), end), (0, wanted), "{class}");
                }
                Look::Half(wanted) => {
                    let (announced, body) = parts(&bytes);
                    assert_eq!((body.len(), end), (announced / 2, wanted), "{class}");
                    assert!(body.len() < announced, "{class}");
                }
                Look::Drip => {
                    let (announced, body) = parts(&bytes);
                    assert_eq!((body.len(), end), (announced, End::Fin), "{class}");
                    let passed = begun.elapsed().as_secs();
                    let wanted = u64::try_from(bytes.len()).expect("a count");
                    assert!(passed.abs_diff(wanted) < 2, "{wanted} bytes in {passed} s");
                }
                Look::Flood => {
                    let (announced, body) = parts(&bytes);
                    assert_eq!(announced, 1 << 30, "{class}");
                    assert!(body.starts_with(b"{\"data\":\"xxx"), "{class}");
                }
                Look::NotOnSockets | Look::Kills | Look::Stale | Look::Whole => unreachable!("handled above"),
            }
        }
        let log = sandbox.log();
        let shown = log[0].cut.map(str::to_owned).or_else(|| log[0].status.map(|_| "whole".to_owned()));
        let wanted = if look == Look::Whole { "whole".to_owned() } else { class.to_string() };
        assert_eq!(shown, Some(wanted), "{class}");
        sandbox.stop().await;
    }
}

fn operation_of(path: &str) -> &'static str {
    let request = Request::builder().method(Method::GET).uri(path).body(bytes::Bytes::new()).expect("a request");
    World::route(&request).expect("a route").operation
}

async fn whole(client: &mut TcpStream, path: &str, class: &FaultKind) {
    one(client, class).await;
    client.write_all(get(path).as_bytes()).await.expect("a second request");
    one(client, class).await;
}

/// Reads one whole response.
async fn one(client: &mut TcpStream, class: &FaultKind) {
    let mut bytes = vec![0; 0];
    let mut block = vec![0; 64 * 1024];
    loop {
        if bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            let (announced, body) = parts(&bytes);
            if body.len() >= announced {
                assert_eq!(body.len(), announced, "{class}");
                return;
            }
        }
        let count = client.read(&mut block).await.expect("bytes");
        assert!(count > 0, "{class} closed its connection");
        bytes.extend_from_slice(&block[..count]);
    }
}

#[tokio::test(start_paused = true)]
async fn latency_is_added_to_each_request_and_the_clock_runs_at_its_speed() {
    let mut options = options();
    options.latency = Duration::from_millis(50);
    options.speed = 600.0;
    let sandbox = start(options).await.expect("a sandbox");
    let (begun, sim) = (Instant::now(), sandbox.now());
    let mut client = connect(&sandbox).await;
    client.write_all(get("/api/v2/accounts/51234/").as_bytes()).await.expect("a request");
    whole(&mut client, "/api/v2/accounts/51234/", &FaultKind::Cut(Cut::Hang)).await;
    let passed = begun.elapsed();
    assert!((100..110).contains(&passed.as_millis()), "{passed:?}");
    let passed = sandbox.now().0 - sim.0;
    assert!((60_000..66_000).contains(&passed), "{passed}");
    assert_eq!(sandbox.connections(), 1);
    assert_eq!(sandbox.log().len(), 2);
}

#[tokio::test]
async fn the_answer_is_dated_by_the_sandboxs_clock_and_names_its_route_when_it_has_none() {
    let sandbox = start(options()).await.expect("a sandbox");
    let mut client = connect(&sandbox).await;
    let request = get("/api/v2/accounts/51234/nothing/").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.expect("a request");
    let (bytes, end) = observe(&mut client).await;
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(end, End::Fin);
    assert!(text.starts_with("HTTP/1.1 501 "), "{text}");
    // 1,800,000,000 s after the epoch.
    assert!(text.contains("date: Fri, 15 Jan 2027 08:0"), "{text}");
    assert_eq!(sandbox.log()[0].operation, "none");
}

#[test]
fn with_tls_the_origin_is_https_and_the_authoritys_file_lives_as_long_as_the_sandbox() {
    let mut options = options();
    options.tls = Some(jiff::Timestamp::from_second(1_800_000_000).expect("a moment"));
    let sandbox = Background::start(options).expect("a sandbox");
    let bare = sandbox.origin().strip_prefix("https://").expect("https");
    let variables: std::collections::BTreeMap<_, _> = sandbox.environment().into_iter().collect();
    assert_eq!(variables["DATABRICKS_HOST"], sandbox.origin());
    assert_eq!(variables["DBT_CLOUD_HOST"], bare);
    assert_eq!(variables["SSL_CERT_FILE"], variables["REQUESTS_CA_BUNDLE"]);
    let file = std::path::PathBuf::from(&variables["SSL_CERT_FILE"]);
    assert!(std::fs::read_to_string(&file).expect("a file").starts_with("-----BEGIN CERTIFICATE-----"));
    drop(sandbox);
    assert!(!file.exists() && !file.parent().expect("a folder").exists());
}

#[tokio::test]
async fn a_taken_port_a_bad_speed_and_an_unwritable_file_are_said_before_anything_runs() {
    let sandbox = start(options()).await.expect("a sandbox");
    let port = sandbox.origin().rsplit(':').next().expect("a port").parse().expect("a number");
    let mut taken = options();
    taken.port = Some(port);
    let said = start(taken).await.err().expect("it is taken").to_string();
    assert_eq!(said, format!("port {port} on 127.0.0.1 is taken by another program"));
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut wrong = options();
        wrong.speed = speed;
        assert!(matches!(start(wrong).await.err(), Some(StartError::Speed(_))));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("absent").join("file");
    let (mut log, mut env) = (options(), options());
    log.log = Some(nowhere.clone());
    env.env_file = Some(nowhere.clone());
    for wrong in [log, env] {
        let said = start(wrong).await.err().expect("it cannot be written").to_string();
        assert!(said.contains(&nowhere.display().to_string()), "{said}");
    }
    sandbox.stop().await;
    let mut again = options();
    again.port = Some(port);
    start(again).await.expect("the port is free again");
}

#[test]
fn in_the_background_it_listens_when_started_and_is_gone_when_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options();
    options.env_file = Some(folder.path().join("env"));
    options.log = Some(folder.path().join("log"));
    let sandbox = Background::start(options).expect("a sandbox");
    let address = sandbox.origin().strip_prefix("http://").expect("an origin").to_owned();
    let env = std::fs::read_to_string(folder.path().join("env")).expect("the file");
    for (name, value) in sandbox.environment() {
        assert!(env.contains(&format!("{name}={value}\n")), "{env}");
    }
    assert!(env.contains("DBT_CLOUD_ACCOUNT_ID=51234\n"), "{env}");
    let mut connection = std::net::TcpStream::connect(&address).expect("it listens");
    sandbox.with_world(|world, _| world.add_fault(rule("dbt:*=close")));
    drop(sandbox);
    // Not a new connection: another test may listen there by now, or start a process that still has the old socket.
    let rest = std::io::Read::read(&mut connection, &mut [0; 1]);
    assert!(matches!(rest, Ok(0) | Err(_)), "it is gone: {rest:?}");
}

/// The client must be a process of its own; Python is needed by other tests anyway.
#[cfg(target_os = "linux")]
#[test]
fn the_kill_rule_kills_the_caller_and_nobody_else() {
    use std::os::unix::process::ExitStatusExt as _;

    const CLIENT: &str = "\
import socket, sys
host, port = sys.argv[1].split(':')
line = socket.create_connection((host, int(port)))
line.sendall(sys.argv[2].encode())
while line.recv(4096): pass
";
    let path = "/api/v2/accounts/51234/";
    let operation = operation_of(path);
    for class in ["kill", "kill,phase=after", "kill-during"] {
        let mut options = options();
        options.faults = vec![rule(&format!("{operation}={class}"))];
        let sandbox = Background::start(options).expect("a sandbox");
        let address = sandbox.origin().strip_prefix("http://").expect("an origin");
        let status = std::process::Command::new("python3")
            .args(["-I", "-c", CLIENT, address, &get(path)])
            .status()
            .expect("a Python");
        assert_eq!(status.signal(), Some(9), "{class}");
        let log = sandbox.log();
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].cut, Some(class.split(',').next().expect("a name")));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_kill_that_would_hit_the_sandbox_itself_resets_the_connection_and_is_said() {
    let path = "/api/v2/accounts/51234/";
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut options = options();
    options.faults = vec![rule(&format!("{}=kill", operation_of(path)))];
    let heard = std::sync::Arc::clone(&said);
    options.on_message = Box::new(move |text| heard.lock().expect("remarks").push(text.to_owned()));
    let sandbox = start(options).await.expect("a sandbox");
    let mut client = connect(&sandbox).await;
    client.write_all(get(path).as_bytes()).await.expect("a request");
    assert_eq!(observe(&mut client).await, (Vec::new(), End::Reset));
    let said = said.lock().expect("remarks").join("\n");
    assert!(said.contains("own process"), "{said}");
}
