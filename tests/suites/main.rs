//! The slower suites: each prints `NAME: N of M`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves three test programs")]
mod harness;

mod killed;
mod sockets;

/// Runs `work` over all cases on a few threads, and returns the results in order.
///
/// A case mostly waits for processes and clocks, so more cases than processors run at once.
fn all<C: Sync, R: Send>(cases: &[C], work: impl Fn(&C) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results: Vec<std::sync::Mutex<Option<R>>> = cases.iter().map(|_| std::sync::Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    *results[index].lock().unwrap() = Some(work(case));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().unwrap().unwrap()).collect()
}

/// Prints a suite's line and fails unless all cases passed.
#[expect(clippy::print_stdout, reason = "the line is what the suite is for")]
fn conclude(name: &str, failures: &[String], cases: usize) {
    println!("{name}: {} of {cases}", cases - failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
