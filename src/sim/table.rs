//! Compares the in-memory transport with real sockets: every fault arrives as the same error. Without this, the
//! simulations would prove nothing.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::memory::MemoryTransport;
use super::scene::on_paused_time;
use crate::http::{Lane, Limits, NetKind, Roots, Sockets, Transport, WireError, refusing};
use crate::sandbox::{Background, Cut, FaultKind, FaultRule, Options, Phase, Seed, SimTime, World};

const START: SimTime = SimTime(1_793_588_645_000);

/// How long to wait before concluding that nothing more is sent.
const SILENT: Duration = Duration::from_millis(400);

/// Time limit of an expected response, also on a busy machine.
const DUE: Duration = Duration::from_secs(30);

/// What the caller of a transport sees.
#[derive(Debug, PartialEq, Eq)]
enum Arrived {
    Answer {
        status: u16,
        body: String,
    },
    NotSent(NetKind),
    Lost(NetKind),
    TooLarge,
    /// Nothing yet; the caller's time limit will end it.
    Nothing,
}

fn seed() -> Seed {
    Seed {
        databricks_token: "dapi-table-0123456789".into(),
        dbt_token: "dbtc_table-0123456789".into(),
        start: START,
        random: 3,
    }
}

async fn send(transport: &impl Transport, origin: &str, patience: Duration) -> Arrived {
    let request = Request::post(format!("{origin}/api/v2/accounts/51234/jobs/222222/run/"))
        .header("Authorization", "Token dbtc_table-0123456789")
        .header("Content-Type", "application/json")
        .body(Bytes::from_static(br#"{"cause":"table"}"#))
        .unwrap();
    let limits = Limits { attempt: Duration::from_mins(1), cap: 8 << 20, longest_text: None };
    match timeout(patience, transport.send(request, limits, Lane::Fresh)).await {
        Ok(Ok(answer)) => {
            // Times and non-text bytes differ between the two.
            let body = String::from_utf8_lossy(answer.body()).replace(|letter: char| letter.is_ascii_digit(), "");
            Arrived::Answer { status: answer.status().as_u16(), body }
        }
        Ok(Err(WireError::NotSent(net))) => Arrived::NotSent(net.kind),
        Ok(Err(WireError::Lost(net))) => Arrived::Lost(net.kind),
        Ok(Err(WireError::TooLarge)) => Arrived::TooLarge,
        Err(_) => Arrived::Nothing,
    }
}

async fn in_memory(rule: &FaultRule) -> Arrived {
    let mut world = World::new(seed());
    world.set_origin("http://127.0.0.1:1".to_owned());
    world.add_fault(rule.clone());
    send(&MemoryTransport::new(world, START), "http://127.0.0.1:1", DUE).await
}

fn sockets_to(origin: &str) -> Sockets {
    Sockets::new(&url::Url::parse(origin).unwrap(), DUE / 10, &Roots::default()).unwrap()
}

async fn over_a_socket(rule: &FaultRule, patience: Duration) -> Arrived {
    let mut options = Options::new(seed());
    options.faults = vec![rule.clone()];
    options.speed = 1.0;
    let sandbox = Background::start(options).unwrap();
    sandbox.with_world(|world, _| world.set_origin("http://127.0.0.1:1".to_owned()));
    send(&sockets_to(sandbox.origin()), sandbox.origin(), patience).await
}

/// The same through TLS, with a client that trusts only the sandbox's certificate authority.
async fn over_tls(rule: &FaultRule, patience: Duration) -> Arrived {
    let mut options = Options::new(seed());
    options.faults = vec![rule.clone()];
    options.speed = 1.0;
    options.tls = Some(today());
    let sandbox = Background::start(options).unwrap();
    sandbox.with_world(|world, _| world.set_origin("http://127.0.0.1:1".to_owned()));
    let sockets = trusting(&sandbox);
    send(&sockets, sandbox.origin(), patience).await
}

#[expect(clippy::disallowed_methods, reason = "a certificate is checked against the real time")]
fn today() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn trusting(sandbox: &Background) -> Sockets {
    let (_, file) = sandbox.environment().into_iter().find(|(name, _)| *name == "SSL_CERT_FILE").unwrap();
    let mut roots = Roots::default();
    roots.add(&std::fs::read(file).unwrap()).unwrap();
    Sockets::new(&url::Url::parse(sandbox.origin()).unwrap(), DUE / 10, &roots).unwrap()
}

/// Produces for real the faults that an accepted connection cannot show.
async fn without_a_connection(class: &FaultKind) -> Arrived {
    let (_port, address) = refusing();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is `on_sockets`, which the caller has asked")]
    let origin = match class {
        // A label of 64 characters is invalid, so resolving it fails without a network.
        FaultKind::Cut(Cut::NoName) => format!("http://{}.invalid:1", "a".repeat(64)),
        FaultKind::Cut(Cut::Refused) => format!("http://{address}"),
        FaultKind::Cut(Cut::Tls) => {
            let plain = Background::start(Options::new(seed())).unwrap();
            let origin = plain.origin().replace("http://", "https://");
            return send(&sockets_to(&origin), &origin, DUE).await;
        }
        FaultKind::Cut(Cut::Blackhole) => {
            // A listener that does not accept and whose queue is full: further connection attempts get no response.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(0).unwrap();
            let full = listener.local_addr().unwrap();
            let mut waiting = Vec::new();
            while let Ok(Ok(stream)) = timeout(SILENT, TcpStream::connect(full)).await {
                waiting.push(stream);
            }
            let origin = format!("http://{full}");
            return (send(&sockets_to(&origin), &origin, DUE).await, listener, waiting).0;
        }
        shown => unreachable!("{shown} can be shown on a connection"),
    };
    send(&sockets_to(&origin), &origin, DUE).await
}

#[test]
#[ignore = "takes long; .ci/run runs it"]
fn every_fault_arrives_over_a_socket_as_it_does_in_memory() {
    let mut rows = Vec::new();
    for class in FaultKind::catalogue() {
        // The sandbox never kills its own process, which is the caller's here.
        if matches!(class, FaultKind::Cut(Cut::Kill | Cut::KillDuring)) {
            continue;
        }
        for (phase, name) in [(Phase::Before, "before"), (Phase::After, "after")] {
            if class.allows(phase) {
                let rule = FaultRule::parse(&format!("dbt:jobs/run={class},phase={name}")).unwrap();
                rows.push((class.clone(), rule));
            }
        }
    }
    let mut wrong = Vec::new();
    let mut secured = 0;
    for (class, rule) in &rows {
        let here = on_paused_time(in_memory(rule));
        let patience = if here == Arrived::Nothing { SILENT } else { DUE };
        let sockets = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let there = sockets.block_on(async {
            if class.on_sockets() { over_a_socket(rule, patience).await } else { without_a_connection(class).await }
        });
        if here != there {
            wrong.push(format!("{rule}: in memory {here:?}, over a socket {there:?}"));
        }
        if class.on_sockets() {
            secured += 1;
            let there = sockets.block_on(over_tls(rule, patience));
            if here != there {
                wrong.push(format!("{rule}: in memory {here:?}, through TLS {there:?}"));
            }
        }
    }
    super::say(&format!(
        "faults that arrive alike in memory, over sockets and through TLS: {} of {}",
        rows.len() + secured - wrong.len(),
        rows.len() + secured
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
