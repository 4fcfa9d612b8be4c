//! Tokens: those of the RFCs, and everything that must not pass for one.

use std::cell::Cell;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use futures::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::host::Unfetched;

/// RFC 7515 A.1.1, A.2.1 and A.3.1; RFC 8037 A.2.
const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const MODULUS: &str = "\
    ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
    T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB\
    dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia\
    GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const EDWARDS: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// What the tokens of RFC 7515's appendices say.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn oct() -> Value {
    json!({"kty": "oct", "k": SECRET})
}

fn rsa() -> Value {
    json!({"kty": "RSA", "n": MODULUS, "e": "AQAB"})
}

fn ec() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y})
}

fn okp() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": EDWARDS})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn set_of(keys: &[Value]) -> Option<KeySet> {
    KeySet::parse(&json!({"keys": keys}).to_string())
}

fn verify(token: &str, keys: &KeySet) -> Option<Vec<u8>> {
    jws::payload(token, keys).ok()
}

fn keys(keys: &[Value]) -> KeySet {
    set_of(keys).expect("a key set")
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn oct_named(kid: &str) -> Value {
    let mut key = oct();
    key["kid"] = kid.into();
    key
}

/// A token with an HS256 signature, whatever its header says.
fn signed_with(secret: &[u8], header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", encode(&signature))
}

fn signed(header: &str, payload: &str) -> String {
    let secret = Base64UrlUnpadded::decode_vec(SECRET).expect("base64url");
    signed_with(&secret, header, payload)
}

const HS256: &str = r#"{"alg":"HS256"}"#;
const NOW: i64 = 1_800_000_000;

fn rules(issuer: Option<&str>, audience: Option<&str>) -> TokenRules {
    TokenRules {
        keys: Keys::given(keys(&[oct()])),
        customer_claim: "sub".to_owned(),
        issuer: issuer.map(ToOwned::to_owned),
        audience: audience.map(ToOwned::to_owned),
        verified: Verified::default(),
    }
}

/// The customer of a token with these claims, by name.
fn claims(rules: &TokenRules, claims: Value) -> Result<String, Unidentified> {
    let customer = rules.customer(&signed(HS256, &claims.to_string()), NOW)?;
    Ok(customer.as_str().to_owned())
}

#[test]
fn the_tokens_of_the_rfcs_are_verified_by_their_keys_only() {
    let payload = Base64UrlUnpadded::decode_vec(PAYLOAD).expect("base64url");
    let tokens = [
        (
            oct(),
            format!(
                "\
            eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
            ),
            payload.clone(),
        ),
        (
            rsa(),
            format!(
                "\
            eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7A\
            AuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5\
            h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvh\
            J1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
            payload.clone(),
        ),
        (
            ec(),
            format!(
                "\
            eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSAp\
            mWQxfKTUJqPP3-Kg6NU1Q"
            ),
            payload,
        ),
        (
            okp(),
            "\
            eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AI\
            bQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
                .into(),
            b"Example of Ed25519 signing".to_vec(),
        ),
    ];
    let all = keys(&tokens.clone().map(|(key, ..)| key));
    for (own, (key, token, payload)) in tokens.iter().enumerate() {
        assert_eq!(verify(token, &all).as_ref(), Some(payload), "{key}");
        for (other, (key, ..)) in tokens.iter().enumerate() {
            let verified = verify(token, &keys(std::slice::from_ref(key)));
            assert_eq!(verified.is_some(), own == other, "{key}: {token}");
        }
        // A bit of what was signed, and a bit of the signature.
        let dot = token.rfind('.').expect("three parts");
        for at in [dot - 9, dot + 9] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(verify(&changed, &all), None, "{changed}");
        }
    }
}

#[test]
fn the_algorithm_is_the_keys() {
    let own = signed(HS256, "{}");
    assert!(verify(&own, &keys(&[oct()])).is_some());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        "[]",
        "",
    ] {
        let token = signed(header, "{}");
        assert_eq!(verify(&token, &keys(&[oct(), rsa()])), None, "{header}");
        let unsigned = format!("{}.{}.", encode(header.as_bytes()), encode(b"{}"));
        assert_eq!(verify(&unsigned, &keys(&[oct()])), None, "{header}");
    }
    // What everybody knows of an RSA key, taken for a secret.
    let modulus = Base64UrlUnpadded::decode_vec(MODULUS).expect("base64url");
    for secret in [modulus, MODULUS.into(), rsa().to_string().into(), json!({"keys": [rsa()]}).to_string().into()] {
        let token = signed_with(&secret, HS256, "{}");
        for set in [&[rsa()][..], &[rsa(), oct()]] {
            assert_eq!(verify(&token, &keys(set)), None);
        }
        let relabelled = signed_with(&secret, r#"{"alg":"RS256"}"#, "{}");
        assert_eq!(verify(&relabelled, &keys(&[rsa()])), None);
    }
}

#[test]
fn a_token_that_names_a_key_is_verified_by_that_key_alone() {
    let named = with(oct(), "kid", json!("a"));
    let other = json!({"kty": "oct", "kid": "b", "k": encode(&[7; 32])});
    let by = |header: &str, set: &[Value]| verify(&signed(header, "{}"), &keys(set)).is_some();
    let both = [other.clone(), named.clone()];
    assert!(by(r#"{"alg":"HS256","kid":"a"}"#, &both));
    let unnamed = jws::payload(&signed(HS256, "{}"), &keys(&both));
    assert_eq!(unnamed, Err(Unidentified::KeyNotNamed));
    assert!(by(HS256, &[named.clone(), rsa()]), "no name: only one key fits");
    for header in [
        r#"{"alg":"HS256","kid":"b"}"#,
        r#"{"alg":"HS256","kid":"c"}"#,
        r#"{"alg":"HS256","kid":""}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256","kid":null}"#,
    ] {
        assert!(!by(header, &both), "{header}");
    }
    assert!(!by(r#"{"alg":"HS256","kid":"a"}"#, &[oct()]), "nameless");
    let namesakes = [with(rsa(), "kid", json!("a")), named];
    assert!(by(r#"{"alg":"HS256","kid":"a"}"#, &namesakes));
}

#[test]
fn what_is_no_token_is_refused() {
    let token = signed(HS256, r#"{"sub":"c","exp":1800000001}"#);
    let set = keys(&[oct()]);
    assert!(verify(&token, &set).is_some());
    for end in 0..token.len() {
        assert_eq!(verify(&token[..end], &set), None, "{end} bytes");
    }
    for no_token in [
        format!("{token}="),
        format!("{token}.x"),
        format!(".{token}"),
        format!("{token} "),
        token.replacen('.', "..", 1),
        "..".into(),
        "\u{e4}.\u{e4}.\u{e4}".into(),
    ] {
        assert_eq!(verify(&no_token, &set), None, "{no_token}");
    }
    let of_size = |payload: usize| {
        let claims = |x: String| json!({"sub": "c", "exp": NOW, "x": x}).to_string();
        let padding = payload - claims(String::new()).len();
        let token = signed(HS256, &claims("x".repeat(padding)));
        (token.len(), rules(None, None).customer(&token, NOW).is_ok())
    };
    assert_eq!(of_size(6095), (jwt::MAX_TOKEN_BYTES, true));
    assert_eq!(of_size(6096), (jwt::MAX_TOKEN_BYTES + 1, false));

    let critical = r#"{"alg":"HS256","crit":["b64"],"b64":false}"#;
    assert_eq!(verify(&signed(critical, "{}"), &set), None);
    let twice = r#"{"alg":"none","alg":"HS256"}"#;
    assert_eq!(verify(&signed(twice, "{}"), &set), None);
}

#[test]
fn claims_decide_who_and_when() {
    let any = rules(None, None);
    let at = |exp: Value, nbf: Value| claims(&any, json!({"sub": "c", "exp": exp, "nbf": nbf}));
    let (ok, invalid) = (Ok("c".to_owned()), Err(Unidentified::InvalidToken));
    let expired = Err(Unidentified::ExpiredToken);
    assert_eq!(at(json!(NOW - 59), json!(NOW + 60)), ok);
    assert_eq!(at(json!(NOW - 60), json!(0)), expired);
    assert_eq!(at(json!(NOW - 61), json!(0)), expired);
    assert_eq!(at(json!(NOW as f64 - 59.5), json!(0)), ok);
    assert_eq!(at(json!(NOW + 1), json!(NOW + 61)), invalid);
    assert_eq!(at(json!((NOW + 1).to_string()), json!(0)), invalid);
    assert_eq!(at(json!(NOW + 1), json!("0")), invalid);
    assert_eq!(at(Value::Null, json!(0)), invalid);

    assert_eq!(claims(&any, json!({"sub": "c", "exp": NOW})), ok);
    assert_eq!(claims(&any, json!({"sub": "c"})), invalid, "for ever");
    for sub in [json!(null), json!(7), json!(""), json!("a\0b"), json!("c".repeat(129)), json!("anonymous")] {
        assert_eq!(claims(&any, json!({"sub": sub, "exp": NOW})), invalid, "{sub}");
    }
    assert_eq!(claims(&any, json!({"exp": NOW})), invalid);
    assert_eq!(claims(&any, json!(["sub", "exp"])), invalid);
    let twice = signed(HS256, r#"{"sub":"c","sub":"d","exp":1800000000}"#);
    assert!(any.customer(&twice, NOW).is_err());
}

#[test]
fn a_token_names_the_issuer_and_the_audience_that_are_set_and_no_others() {
    let both = rules(Some("https://issuer"), Some("orders"));
    let of = |iss: Value, aud: Value| claims(&both, json!({"sub": "c", "exp": NOW, "iss": iss, "aud": aud})).is_ok();
    assert!(of(json!("https://issuer"), json!("orders")));
    assert!(of(json!("https://issuer"), json!(["others", "orders"])));
    for (iss, aud) in [
        (json!("https://issuer/"), json!("orders")),
        (json!(null), json!("orders")),
        (json!(["https://issuer"]), json!("orders")),
        (json!("https://issuer"), json!("others")),
        (json!("https://issuer"), json!([])),
        (json!("https://issuer"), json!(["ORDERS"])),
        (json!("https://issuer"), json!({"orders": true})),
        (json!("https://issuer"), json!(null)),
    ] {
        assert!(!of(iss.clone(), aud.clone()), "{iss} {aud}");
    }
    assert!(claims(&both, json!({"sub": "c", "exp": NOW})).is_err());

    let named = |name: &str, value: Value| {
        let mut all = json!({"sub": "c", "exp": NOW});
        all[name] = value;
        all
    };
    let neither = rules(None, None);
    for value in [json!("x"), json!(["x"]), json!([]), json!(null)] {
        for name in ["iss", "aud"] {
            assert!(claims(&neither, named(name, value.clone())).is_err());
        }
    }
    let one = |issuer, audience, name| claims(&rules(issuer, audience), named(name, json!("x")));
    assert!(one(Some("x"), None, "iss").is_ok());
    assert!(one(None, Some("x"), "aud").is_ok());
    let both = json!({"sub": "c", "exp": NOW, "iss": "x", "aud": "x"});
    for (issuer, audience, good) in [(Some("x"), None, false), (None, Some("x"), false), (Some("x"), Some("x"), true)] {
        let admitted = claims(&rules(issuer, audience), both.clone()).is_ok();
        assert_eq!(admitted, good, "{issuer:?} {audience:?}");
    }
}

#[test]
fn what_is_signed_for_another_purpose_is_no_token() {
    let typed = |typ: Value| {
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        verify(&signed(&header, "{}"), &keys(&[oct()])).is_some()
    };
    for good in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(typed(json!(good)), "{good}");
    }
    for bad in [
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("JOSE"),
        json!("text/jwt"),
        json!("application/application/jwt"),
        json!(""),
        json!(null),
        json!(["JWT"]),
    ] {
        assert!(!typed(bad.clone()), "{bad}");
    }
}

#[test]
fn keys_for_other_uses_are_left_out_and_broken_ones_are_not() {
    for left_out in [
        json!({"kty": "EC", "crv": "P-384", "x": X, "y": Y}),
        json!({"kty": "OKP", "crv": "X25519", "x": EDWARDS}),
        json!({"kty": "new"}),
        with(rsa(), "alg", json!("RS512")),
        with(rsa(), "alg", json!("HS256")),
        with(rsa(), "use", json!("enc")),
        with(ec(), "key_ops", json!(["sign"])),
    ] {
        assert!(set_of(std::slice::from_ref(&left_out)).is_none(), "{left_out}: none is left");
        assert!(set_of(&[left_out.clone(), okp()]).is_some(), "{left_out}");
    }
    for broken in [
        json!({}),
        json!("key"),
        json!({"kty": "oct", "k": encode(&[7; 31])}),
        json!({"kty": "oct", "k": format!("{SECRET}=")}),
        with(ec(), "y", json!(X)),
        with(ec(), "x", json!(encode(&[0; 31]))),
        with(okp(), "x", json!(encode(&[0; 31]))),
        with(okp(), "x", json!(null)),
        with(rsa(), "n", json!(encode(&[0xff; 255]))),
        with(rsa(), "n", json!(encode(&[0xff; 513]))),
        with(rsa(), "e", json!("AA")),
        with(rsa(), "kid", json!(7)),
        with(rsa(), "alg", json!(7)),
    ] {
        assert!(set_of(&[broken.clone(), okp()]).is_none(), "{broken}");
    }
    for alg in ["EdDSA", "Ed25519"] {
        assert!(set_of(&[with(okp(), "alg", json!(alg))]).is_some(), "{alg}");
    }
    assert!(keys(&[okp()]).matching("Ed25519", None).next().is_some());
    let every = with(with(rsa(), "alg", json!("RS256")), "use", json!("sig"));
    assert!(set_of(&[with(every, "key_ops", json!(["verify"]))]).is_some());
    for no_set in ["", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(KeySet::parse(no_set).is_none(), "{no_set}");
    }
}

#[test]
fn a_field_names_one_customer() {
    let gateway = Identity::Header("X-User-Id".into());
    let of = |values: &[&str]| {
        let values = values.iter().map(|value| value.as_bytes());
        let customer = gateway.customer(values, || NOW);
        customer.map(|customer| customer.as_str().to_owned())
    };
    let longest = "c".repeat(128);
    assert_eq!(of(&["c"]), Ok("c".into()));
    assert_eq!(of(&[&longest]), Ok(longest.clone()));
    for values in
        [&[][..], &[""], &["c", "c"], &["c, c"], &["c,d"], &["c", ""], &[&format!("{longest}c")], &["anonymous"]]
    {
        assert_eq!(of(values), Err(Unidentified::NotNamed), "{values:?}");
    }
    let latin1 = gateway.customer([&b"\xe4"[..]], || NOW);
    assert_eq!(latin1, Err(Unidentified::NotNamed));
    let customer = Identity::None.customer([], || NOW);
    assert_eq!(customer, Ok(Customer::anonymous()));
}

#[test]
fn a_verified_token_is_known_until_it_expires() {
    let mut rules = rules(None, None);
    let token = |n: i64| signed(HS256, &json!({"sub": n.to_string(), "exp": NOW + n}).to_string());
    let customer = |rules: &TokenRules, n, now| rules.customer(&token(n), now).map(|name| name.as_str().to_owned());
    assert_eq!(customer(&rules, 1, NOW), Ok("1".into()));
    // What is known needs no key.
    rules.keys = Keys::given(keys(&[okp()]));
    assert_eq!(customer(&rules, 2, NOW), Err(Unidentified::UnknownKey));
    assert_eq!(customer(&rules, 1, NOW), Ok("1".into()));
    assert_eq!(customer(&rules, 1, NOW + 61), Err(Unidentified::ExpiredToken));
    rules.keys = Keys::given(keys(&[oct()]));
    for n in 2..=129 {
        assert_eq!(customer(&rules, n, NOW), Ok(n.to_string()));
    }
    rules.keys = Keys::given(keys(&[okp()]));
    assert_eq!(customer(&rules, 1, NOW), Err(Unidentified::UnknownKey), "forgotten");
    assert_eq!(customer(&rules, 129, NOW), Ok("129".into()));
}

#[test]
fn a_token_comes_as_bearer_credentials() {
    let identity = Identity::Jwt(Box::new(rules(None, None)));
    let of = |values: &[&str]| {
        let customer = identity.customer(values.iter().map(|value| value.as_bytes()), || NOW);
        customer.map(|customer| customer.as_str().to_owned())
    };
    let token = signed(HS256, r#"{"sub":"c","exp":1800000000}"#);
    assert_eq!(of(&[&format!("Bearer {token}")]), Ok("c".into()));
    assert_eq!(of(&[&format!("bearer  {token}")]), Ok("c".into()));
    for none in [&[][..], &[""], &["Basic Yzpj"], &[&token], &[&format!("Bearer{token}")]] {
        assert_eq!(of(none), Err(Unidentified::NoToken), "{none:?}");
    }
    let twice = format!("Bearer {token}");
    for invalid in [&["Bearer"][..], &["Bearer x"], &[&twice, &twice]] {
        assert_eq!(of(invalid), Err(Unidentified::InvalidToken), "{invalid:?}");
    }
    let stale = signed(HS256, r#"{"sub":"c","exp":1700000000}"#);
    assert_eq!(of(&[&format!("Bearer {stale}")]), Err(Unidentified::ExpiredToken));
}

#[test]
fn another_claim_may_name_the_customer() {
    let token = signed(HS256, r#"{"sub":"c","userId":"u","exp":1800000000}"#);
    let named = |claim: &str| {
        let rules = TokenRules { customer_claim: claim.to_owned(), ..rules(None, None) };
        rules.customer(&token, NOW).map(|customer| customer.as_str().to_owned())
    };
    assert_eq!(named("userId"), Ok("u".into()));
    assert_eq!(named("email"), Err(Unidentified::InvalidToken));
}

/// Renews the keys at that second, where the issuer returns this. Returns whether there are keys, and whether it
/// was asked.
fn renew(keys: &Keys, second: u64, answer: Result<&[Value], Unfetched>) -> (bool, bool) {
    let was_asked = Cell::new(false);
    let fetch = async |url: &str| {
        assert_eq!(url, "https://issuer.test/keys");
        was_asked.set(true);
        answer.map(|keys| json!({"keys": keys}).to_string().into_bytes())
    };
    let has_keys = keys.renew(Duration::from_secs(second), fetch).now_or_never();
    (has_keys.expect("no wait"), was_asked.get())
}

#[test]
fn keys_are_fetched_once_a_minute_and_the_last_good_set_is_kept() {
    let keys = Keys::at("https://issuer.test/keys".to_owned());
    let (old, new) = (oct_named("old"), oct_named("new"));
    let (old_token, new_token) =
        (signed(r#"{"alg":"HS256","kid":"old"}"#, "{}"), signed(r#"{"alg":"HS256","kid":"new"}"#, "{}"));
    assert_eq!(keys.payload(&old_token), Err(Unidentified::UnknownKey));
    assert_eq!(renew(&keys, 0, Err(Unfetched::NoAnswer)), (false, true));
    assert_eq!(renew(&keys, 0, Ok(std::slice::from_ref(&old))), (false, false), "too soon");
    assert_eq!(renew(&keys, 1, Ok(&[])), (false, true), "no key is no set");
    assert_eq!(renew(&keys, 2, Ok(std::slice::from_ref(&old))), (true, true));
    assert!(keys.payload(&old_token).is_ok());
    assert_eq!(keys.payload(&new_token), Err(Unidentified::UnknownKey));
    // The first set does not count, a second one does, and so does a failure.
    assert_eq!(renew(&keys, 3, Err(Unfetched::NoAnswer)), (true, true));
    assert!(keys.payload(&old_token).is_ok(), "kept");
    assert_eq!(renew(&keys, 62, Ok(std::slice::from_ref(&new))), (true, false));
    assert_eq!(renew(&keys, 63, Ok(&[old, new.clone()])), (true, true));
    assert!(keys.payload(&old_token).is_ok() && keys.payload(&new_token).is_ok());
    assert_eq!(renew(&keys, 123, Ok(&[new])), (true, true));
    assert_eq!(keys.payload(&old_token), Err(Unidentified::UnknownKey), "withdrawn");
    assert!(renew(&Keys::given(self::keys(&[oct()])), 0, Ok(&[])).0);
}

#[test]
fn a_request_that_waits_for_anothers_fetch_closes_nothing() {
    let keys = Keys::at("https://issuer.test/keys".to_owned());
    let never = keys.renew(Duration::ZERO, async |_| std::future::pending().await).now_or_never();
    assert_eq!(never, None, "under way");
    assert_eq!(renew(&keys, 0, Err(Unfetched::AskedByAnother)), (false, true));
    assert_eq!(renew(&keys, 0, Ok(&[oct()])), (true, true));
}
