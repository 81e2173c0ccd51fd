//! OAuth.

use http::Request;
use serde_json::Value;

use super::Bench;
use crate::sandbox::{Reply, SimTime};

const ID: &str = "1b2c3d4e-0000-4000-8000-000000000001";
const ME: &str = "/api/2.0/preview/scim/v2/Me";

fn ask(bench: &mut Bench, authorization: &str, form: &str) -> (u16, Value) {
    let request = Request::post("https://sandbox.invalid/oidc/v1/token")
        .header("Authorization", authorization)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.to_owned().into())
        .expect("a request");
    match bench.world.answer(SimTime(bench.now), &request) {
        Reply::Answer(answer) => (answer.status().as_u16(), serde_json::from_slice(answer.body()).expect("JSON")),
        other @ Reply::Broken(..) => panic!("no whole answer but {other:?}"),
    }
}

#[test]
fn a_service_principal_gets_a_token_that_lives_as_long_as_it_says() {
    let mut bench = Bench::new();
    bench.world.add_client(ID, "secret-1", false);
    bench.world.set_token_life(60);
    let form = "grant_type=client_credentials&scope=all-apis";
    // base64 of `id:secret`
    let basic = "Basic MWIyYzNkNGUtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAxOnNlY3JldC0x";
    let (status, body) = ask(&mut bench, basic, form);
    assert_eq!((status, &body["expires_in"], &body["token_type"]), (200, &60.into(), &"Bearer".into()), "{body}");
    let token = body["access_token"].as_str().expect("a token").to_owned();
    let (status, me) = bench.wait(59).call_as(&token, "GET", ME, &Value::Null);
    assert_eq!((status, &me["userName"]), (200, &ID.into()));
    assert_eq!(bench.wait(1).call_as(&token, "GET", ME, &Value::Null).0, 401);
    let (status, body) = ask(&mut bench, "Basic MTpy", form);
    assert_eq!((status, &body["error"]), (401, &"invalid_client".into()));
    let (status, body) = ask(&mut bench, basic, "grant_type=password&scope=all-apis");
    assert_eq!((status, &body["error"]), (400, &"unsupported_grant_type".into()));
}

#[test]
fn an_id_token_is_exchanged_where_a_policy_takes_it() {
    let mut bench = Bench::new();
    bench.world.add_federation_policy(ID, "a.b.c", false);
    let form = |client: &str, token: &str| {
        format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
             &subject_token_type=urn:ietf:params:oauth:token-type:jwt&scope=all-apis{client}"
        )
    };
    assert_eq!(ask(&mut bench, "", &form(&format!("&client_id={ID}"), "a.b.c")).0, 200);
    assert_eq!(ask(&mut bench, "", &form("", "a.b.c")).0, 200, "an account-wide policy names no client");
    let (status, body) = ask(&mut bench, "", &form("&client_id=other", "a.b.c"));
    assert_eq!((status, &body["error"]), (400, &"invalid_grant".into()));
}

#[test]
fn discovery_names_the_endpoints_without_asking_who_calls() {
    let mut bench = Bench::new();
    let (status, body) = bench.call_as("", "GET", "/oidc/.well-known/oauth-authorization-server", &Value::Null);
    assert_eq!((status, &body["token_endpoint"]), (200, &"https://sandbox.invalid/oidc/v1/token".into()));
}
