//! Searches everything that the other suites printed, logged and left behind for their tokens, in every form.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the harness serves three test programs")]
mod harness;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use harness::{DATABRICKS_TOKEN, DBT_TOKEN, outputs};

/// Plain, hex, URL, JSON, and base64 at each alignment in both alphabets, implemented again independently of the
/// program.
fn forms(token: &str) -> Vec<String> {
    let mut hex = String::new();
    let mut url = String::new();
    for byte in token.bytes() {
        write!(hex, "{byte:02x}").unwrap();
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            _ => write!(url, "%{byte:02X}").unwrap(),
        }
    }
    let mut forms = vec![token.to_owned(), hex.to_uppercase(), hex, url.to_lowercase(), url];
    forms.push(serde_json::to_string(token).unwrap().trim_matches('"').replace('/', "\\/"));
    for shift in 0..3 {
        let framed = format!("{}{token}", "\0".repeat(shift));
        for text in [STANDARD_NO_PAD.encode(&framed), URL_SAFE_NO_PAD.encode(&framed)] {
            // The first characters depend on the padding, the last one on what follows.
            forms.push(text[[0, 2, 3][shift]..text.len() - 1].to_owned());
        }
    }
    forms
}

fn find(text: &str) -> Option<&'static str> {
    for (name, token) in [("the Databricks token", DATABRICKS_TOKEN), ("the dbt token", DBT_TOKEN)] {
        if forms(token).iter().any(|form| text.contains(form.as_str())) {
            return Some(name);
        }
    }
    None
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the suite is for")]
fn no_token_is_anywhere_in_the_output_of_the_test_run() {
    let files: Vec<_> = std::fs::read_dir(outputs()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 100, "only {} files: the other suites have not run before this one", files.len());
    let mut clean = 0;
    let mut found = Vec::new();
    for path in &files {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        match find(&text) {
            None => clean += 1,
            Some(what) => found.push(format!("{what} is in {}", path.display())),
        }
    }
    println!("outputs without a token: {clean} of {}", files.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the suite is for")]
fn a_planted_leak_is_found_in_every_form() {
    let mut found = 0;
    let mut planted = 0;
    for token in [DATABRICKS_TOKEN, DBT_TOKEN] {
        for frame in ["", "x", "xy"] {
            let framed = format!("{frame}{token}{frame}");
            let hex: String = framed.bytes().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            let url: String = url::form_urlencoded::byte_serialize(framed.as_bytes()).collect();
            for leak in [
                framed.clone(),
                STANDARD_NO_PAD.encode(&framed),
                URL_SAFE_NO_PAD.encode(&framed),
                hex,
                url,
                format!("{framed:?}"),
            ] {
                planted += 1;
                found += usize::from(find(&format!("Traceback: {leak} end")).is_some());
            }
        }
    }
    println!("planted leaks found: {found} of {planted}");
    assert_eq!(found, planted);
}
