//! Tokens that are good, and all the ways in which they are not.

use super::*;
use ed25519_dalek::{Signature, Signer as _};
use uuid::Uuid;

const ISSUER: &str = "urn:daybook:test";

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_700)
}

fn derive() -> Derive {
    Arc::new(|purpose| Sha256::digest(purpose.as_bytes()).into())
}

fn tokens() -> AccessTokens {
    AccessTokens::new(derive(), ISSUER.into(), 1, now())
}

fn claims() -> Claims {
    Claims {
        account: AccountId(Uuid::from_u128(1)),
        tenant: TenantId(Uuid::from_u128(2)),
        membership: Some(MembershipId(Uuid::from_u128(3))),
        session: SessionId(Uuid::from_u128(4)),
        expires_at: now() + TimeDelta::minutes(5),
    }
}

/// A token with another header and payload, signed by our own key: only what it says is wrong.
fn forged(header: serde_json::Value, payload: serde_json::Value) -> String {
    let seed = derive()(&format!("daybook access tokens v1 1 {}", period(now())));
    let signed = format!("{}.{}", part(&header), part(&payload));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(&seed).sign(signed.as_bytes()).to_bytes()))
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn header() -> serde_json::Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": Ring::of(&derive(), 1, period(now())).keys[1].header.kid })
}

fn payload() -> serde_json::Value {
    let at = now().timestamp();
    json!({
        "iss": ISSUER, "aud": "daybook", "sub": Uuid::from_u128(1), "tid": Uuid::from_u128(2),
        "sid": Uuid::from_u128(4), "iat": at, "nbf": at, "exp": at + 300,
    })
}

fn with(mut value: serde_json::Value, field: &str, to: serde_json::Value) -> serde_json::Value {
    value[field] = to;
    value
}

#[test]
fn a_token_says_what_it_was_given_until_it_expires() {
    let tokens = tokens();
    let token = tokens.issue(&claims(), now()).expect("a token");
    assert_eq!(tokens.read(&token, now()), Ok(claims()));
    assert_eq!(tokens.read(&token, now() + TimeDelta::seconds(299)), Ok(claims()));
    assert_eq!(tokens.read(&token, now() + TimeDelta::seconds(300)), Err(TokenError::Expired));
    // A node whose clock is a little behind takes it; one that is far behind does not.
    assert_eq!(tokens.read(&token, now() - TimeDelta::seconds(10)), Ok(claims()));
    assert_eq!(tokens.read(&token, now() - TimeDelta::seconds(60)), Err(TokenError::NotYet));
}

#[test]
fn no_token_is_good_for_more_than_five_minutes() {
    let long = Claims { expires_at: now() + TimeDelta::minutes(6), ..claims() };
    assert_eq!(tokens().issue(&long, now()), None);
    let long = with(payload(), "exp", json!(now().timestamp() + 301));
    assert_eq!(tokens().read(&forged(header(), long), now()), Err(TokenError::Expired));
}

#[test]
fn the_forger_of_these_tests_can_make_a_good_one() {
    assert!(tokens().read(&forged(header(), payload()), now()).is_ok());
}

/// Attack 34.
#[test]
fn attack_34_a_token_does_not_choose_how_it_is_checked() {
    let tokens = tokens();
    let read = |header, payload| tokens.read(&forged(header, payload), now());
    for (algorithm, why) in [
        // No algorithms to anybody here.
        ("none", TokenError::Malformed),
        ("None", TokenError::Malformed),
        ("", TokenError::Malformed),
        ("Ed25519", TokenError::Malformed),
        ("eddsa", TokenError::Malformed),
        ("HS256", TokenError::Algorithm),
        ("RS256", TokenError::Algorithm),
        ("ES256", TokenError::Algorithm),
    ] {
        let header = with(header(), "alg", json!(algorithm));
        assert_eq!(read(header, payload()), Err(why), "{algorithm}");
    }
    for kind in ["JWT", "at+JWT", "", "id+jwt"] {
        assert_eq!(read(with(header(), "typ", json!(kind)), payload()), Err(TokenError::Algorithm), "{kind}");
    }
    // Names of keys that are none, keys that the token brings along, and places where to fetch some.
    for kid in ["", "../../root.key", "' or 1=1 --", "https://evil.example/jwks.json"] {
        assert_eq!(read(with(header(), "kid", json!(kid)), payload()), Err(TokenError::Key), "{kid}");
    }
    for field in ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip"] {
        assert_eq!(read(with(header(), field, json!("x")), payload()), Err(TokenError::Malformed), "{field}");
    }
    assert_eq!(read(with(header(), "alg", json!(["EdDSA"])), payload()), Err(TokenError::Malformed));
    assert_eq!(read(json!({ "alg": "EdDSA", "typ": "at+jwt" }), payload()), Err(TokenError::Malformed));
    assert_eq!(read(header(), with(payload(), "aud", json!("elsewhere"))), Err(TokenError::Audience));
    assert_eq!(read(header(), with(payload(), "aud", json!(["daybook"]))), Err(TokenError::Malformed));
    assert_eq!(read(header(), with(payload(), "iss", json!("urn:daybook:other"))), Err(TokenError::Issuer));
    let at = now().timestamp();
    assert_eq!(read(header(), with(payload(), "exp", json!(at))), Err(TokenError::Expired));
    assert_eq!(read(header(), with(payload(), "nbf", json!(at + 60))), Err(TokenError::NotYet));
    assert_eq!(
        read(header(), with(with(payload(), "iat", json!(at + 60)), "exp", json!(at + 90))),
        Err(TokenError::NotYet)
    );
    for field in ["iss", "aud", "sub", "tid", "sid", "iat", "nbf", "exp"] {
        let mut lacking = payload();
        lacking.as_object_mut().expect("an object").remove(field);
        assert_eq!(read(header(), lacking), Err(TokenError::Malformed), "{field}");
    }
    assert_eq!(read(header(), with(payload(), "roles", json!(["platformAdmin"]))), Err(TokenError::Malformed));
}

#[test]
fn attack_34_a_token_that_was_changed_or_signed_by_another_is_refused() {
    let tokens = tokens();
    let token = tokens.issue(&claims(), now()).expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let another = part(&with(payload(), "sub", json!(Uuid::from_u128(9))));
    assert_eq!(tokens.read(&format!("{}.{another}.{}", parts[0], parts[2]), now()), Err(TokenError::Signature));
    let zero = URL_SAFE_NO_PAD.encode([0u8; 64]);
    for signature in [zero.as_str(), "", &parts[2][..20]] {
        let token = format!("{}.{}.{signature}", parts[0], parts[1]);
        assert_eq!(tokens.read(&token, now()), Err(TokenError::Signature), "{signature}");
    }
    // With a member of its header twice.
    let twice = |text: &str, member: &str| {
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("UTF-8");
        URL_SAFE_NO_PAD.encode(format!("{},{member}}}", json.trim_end_matches('}')))
    };
    let header = twice(parts[0], r#""alg":"EdDSA""#);
    assert_eq!(tokens.read(&format!("{header}.{}.{}", parts[1], parts[2]), now()), Err(TokenError::Malformed));
    let malformed = [
        "".to_owned(),
        "a.b".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}."),
        format!("{token}="),
        format!("{token}{}", "x".repeat(BYTES_MAX)),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
    ];
    for wrong in malformed {
        assert_eq!(tokens.read(&wrong, now()), Err(TokenError::Malformed), "{wrong}");
    }
    let stranger = AccessTokens::new(Arc::new(|_| [7; 32]), ISSUER.into(), 1, now());
    assert_eq!(tokens.read(&stranger.issue(&claims(), now()).expect("a token"), now()), Err(TokenError::Key));
}

#[test]
fn keys_follow_each_other_and_the_last_one_is_good_for_a_while() {
    let tokens = tokens();
    // The last second of a period.
    let last = DateTime::from_timestamp((period(now()) + 1) * PERIOD_S - 1, 0).expect("a time");
    let at_last = Claims { expires_at: last + TimeDelta::minutes(5), ..claims() };
    let token = tokens.issue(&at_last, last).expect("a token");
    let next = last + TimeDelta::seconds(2);
    assert_eq!(tokens.read(&token, next), Ok(at_last));
    let (before, after) = (tokens.jwks(last), tokens.jwks(next));
    assert_eq!(before["keys"][2], after["keys"][1], "a key is published before it signs");
    let signed = tokens.issue(&at_last, next).expect("a token");
    assert_ne!(token.split('.').next(), signed.split('.').next());
    // A node whose clock has not reached the new period yet knows the key as well.
    assert_eq!(tokens.read(&signed, last), Ok(at_last));
}

#[test]
fn keys_of_another_generation_are_good_for_nothing() {
    let raised = AccessTokens::new(derive(), ISSUER.into(), 2, now());
    let token = tokens().issue(&claims(), now()).expect("a token");
    assert_eq!(raised.read(&token, now()), Err(TokenError::Key));
}

#[test]
fn published_keys_verify_what_is_signed_and_hold_no_secret() {
    use ed25519_dalek::VerifyingKey;
    let tokens = tokens();
    let token = tokens.issue(&claims(), now()).expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    let jwks = tokens.jwks(now());
    let keys = jwks["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"] == json!(header.kid)).expect("the key");
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().expect("x")).expect("base64url");
    let public = VerifyingKey::from_bytes(&x.try_into().expect("32 bytes")).expect("a key");
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64url");
    let signature = Signature::from_slice(&signature).expect("a signature");
    public.verify_strict(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).expect("verifies");
    assert!(keys.iter().all(|key| key.get("d").is_none()));
}
