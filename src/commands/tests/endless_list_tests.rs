//! An endless or repeating list is an error in every command, never a truncated list.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::commands::tests::harness::Harness;
use crate::commands::{Wire, jobs, run, runs, workflows};
use crate::credentials::AccountFlags;
use crate::events::Events;
use crate::failure::Ended;
use crate::http::{Lane, Limits, Pending, Transport};
use crate::sim::say;

/// How the pages of the list misbehave.
#[derive(Clone, Copy, Debug)]
enum Pages {
    /// Same rows, same next-page token.
    Circle,
    /// Same rows, new next-page token.
    SameRows,
    /// New rows forever.
    Endless,
}

/// A service whose list at this path misbehaves; everything else works.
struct Lists {
    path: &'static str,
    pages: Pages,
    asked: Cell<u64>,
}

impl Lists {
    fn answer(&self, path: &str) -> Value {
        let bad = path.contains(self.path);
        if bad {
            self.asked.set(self.asked.get() + 1);
        }
        let page = match (bad, self.pages) {
            (false, _) | (true, Pages::Circle | Pages::SameRows) => 1,
            (true, Pages::Endless) => self.asked.get(),
        };
        let token = match (bad, self.pages) {
            (false, _) => String::new(),
            (true, Pages::Circle) => "t".to_owned(),
            (true, Pages::SameRows | Pages::Endless) => self.asked.get().to_string(),
        };
        let ids = (0..if bad { 100 } else { 1 }).map(|row| page * 1000 + row);
        if path.contains("/scim/") {
            return json!({ "userName": "ana@example.com", "id": "1" });
        }
        if path.contains("/api/2.") {
            let of = |make: fn(u64) -> Value| ids.clone().map(make).collect::<Vec<_>>();
            let jobs = of(|id| json!({ "job_id": id, "settings": { "name": "n" } }));
            return json!({ "jobs": jobs, "runs": of(|id| json!({ "run_id": id })), "next_page_token": token });
        }
        let rows: Vec<Value> = ids
            .map(|id| json!({ "id": id, "name": format!("n{id}"), "status": 1, "trigger": { "cause": "x" } }))
            .collect();
        json!({ "status": {}, "data": rows })
    }
}

impl Transport for Lists {
    fn send(&self, request: Request<Bytes>, _: Limits, _: Lane) -> Pending<'_> {
        let answer = self.answer(request.uri().path()).to_string();
        Box::pin(async move { Ok(Response::new(Bytes::from(answer))) })
    }
}

/// A command and its arguments.
#[derive(Clone, Copy, Debug)]
enum Line {
    Jobs(&'static [&'static str]),
    Run(&'static [&'static str]),
    Runs(&'static [&'static str]),
    Workflows,
}

async fn exit(line: Line, lists: Lists) -> u8 {
    fn read<A: clap::Args>(line: &[&str]) -> A {
        let matches = A::augment_args(clap::Command::new("x")).try_get_matches_from([&["x"], line].concat()).unwrap();
        A::from_arg_matches(&matches).unwrap()
    }
    let mut ctx = Harness::new().ctx(AccountFlags::default(), Events::new(|_| ()));
    ctx.wire = Wire::Memory(Rc::new(lists));
    let Ended { report: _, failure } = match line {
        Line::Jobs(line) => jobs::run(read(line), &ctx).await,
        Line::Run(line) => Box::pin(run::run(read(line), &ctx)).await,
        Line::Runs(line) => runs::run(read(line), &ctx).await,
        Line::Workflows => workflows::run(read(&[]), &ctx).await,
    };
    failure.map_or(0, |failure| failure.code.exit())
}

#[tokio::test(start_paused = true)]
#[ignore = "takes long; .ci/run runs it"]
async fn a_list_that_does_not_end_is_an_error_in_every_command() {
    let (mut right, mut all, mut wrong) = (0, 0, Vec::new());
    for (path, line) in [
        ("/jobs/", Line::Jobs(&[])),
        ("/projects/", Line::Jobs(&[])),
        ("/jobs/", Line::Run(&["n1001"])),
        ("/jobs/list", Line::Run(&["--workflow", "n"])),
        ("/runs/", Line::Runs(&["--limit", "1000", "--status", "error"])),
        ("/runs/", Line::Runs(&["--orphans"])),
        ("/jobs/list", Line::Runs(&["--workflow", "n"])),
        ("/jobs/list", Line::Workflows),
        ("/jobs/runs/list", Line::Runs(&["--workflow", "n", "--limit", "1000"])),
    ] {
        for pages in [Pages::Circle, Pages::SameRows, Pages::Endless] {
            // Reading runs stops at the limit.
            let ends = matches!((path, pages), ("/jobs/runs/list", Pages::Endless));
            let exit = exit(line, Lists { path, pages, asked: Cell::new(0) }).await;
            all += 1;
            if exit == if ends { 0 } else { 13 } {
                right += 1;
            } else {
                wrong.push(format!("{line:?}, {pages:?} of {path}: {exit}"));
            }
        }
    }
    say(&format!("lists that do not end are errors: {right} of {all}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
