use super::*;
use daybook_store::system::Real;

/// Cheap, so that tests are quick.
fn options() -> HashOptions {
    HashOptions { memory_kib: 64, passes: 1, lanes: 1, threads: 1, queue_max: 2 }
}

fn passwords(options: HashOptions) -> Passwords {
    Passwords::new(options, Arc::new(Real)).expect("parameters")
}

fn typed(text: &str) -> Password {
    Password::typed(text.to_owned())
}

#[tokio::test]
async fn a_password_is_known_again_and_no_other() {
    let passwords = passwords(options());
    let hash = passwords.hash(typed("correct horse")).await.expect("a hash");
    assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
    assert_ne!(hash, passwords.hash(typed("correct horse")).await.expect("a hash"), "each has its salt");
    let compare = |text: &str| passwords.compare(typed(text), Some(hash.clone()));
    assert_eq!(compare("correct horse").await.expect("a verdict"), Verdict::Right(None));
    for other in ["correct hors", "correct horse ", "", &"x".repeat(100_000)] {
        assert_eq!(compare(other).await.expect("a verdict"), Verdict::Wrong);
    }
}

#[tokio::test]
async fn nobodys_password_is_right() {
    let passwords = passwords(options());
    assert_eq!(passwords.compare(typed("x"), None).await.expect("a verdict"), Verdict::Wrong);
    assert_eq!(passwords.compare(typed("x"), Some("damaged".into())).await.expect("a verdict"), Verdict::Wrong);
}

#[tokio::test]
async fn a_hash_of_before_is_replaced_by_one_of_today() {
    let passwords = passwords(options());
    let bcrypt = bcrypt::hash("correct horse", 4).expect("a hash");
    let dearer = Passwords::new(HashOptions { memory_kib: 128, ..options() }, Arc::new(Real)).expect("parameters");
    for old in [bcrypt, dearer.hash(typed("correct horse")).await.expect("a hash")] {
        assert_eq!(
            passwords.compare(typed("wrong horse"), Some(old.clone())).await.expect("a verdict"),
            Verdict::Wrong
        );
        let Verdict::Right(Some(new)) = passwords.compare(typed("correct horse"), Some(old)).await.expect("a verdict")
        else {
            panic!("a new hash");
        };
        let again = passwords.compare(typed("correct horse"), Some(new)).await.expect("a verdict");
        assert_eq!(again, Verdict::Right(None));
    }
}

#[tokio::test]
async fn who_finds_no_room_is_told_to_come_back() {
    let passwords = passwords(options());
    let held = passwords.inner.running.clone().acquire_owned().await.expect("a turn");
    let waits = |text: &'static str| {
        let passwords = passwords.clone();
        tokio::spawn(async move { passwords.hash(typed(text)).await.is_ok() })
    };
    let (first, second) = (waits("one"), waits("two"));
    while passwords.inner.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(passwords.hash(typed("three")).await, Err(HashError::Busy(_))));
    drop(held);
    assert!(first.await.expect("an end") && second.await.expect("an end"));
    assert!(passwords.hash(typed("three")).await.is_ok());
}

#[test]
fn a_password_to_be_set_is_long_enough() {
    let code = |text: &str| Password::parse(&["password"], text.to_owned()).map(|_| "").unwrap_or_else(|e| e.code);
    assert_eq!(code("short"), "TOO_SHORT");
    assert_eq!(code("ßßßßßßßßßß"), "");
    assert_eq!(code(&"x".repeat(257)), "TOO_LONG");
    assert_eq!(format!("{:?}", typed("secret")), "Password(…)");
}

#[test]
fn only_whole_hashes_at_a_bearable_price_are_imported() {
    let bcrypt = bcrypt::hash("x", 4).expect("a hash");
    assert!(imported(&bcrypt).is_ok());
    let argon2 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$7ZyAJsPvB6k1mC8kQm1b0m3u1vJm3D0nq0qjvK9Kqk4";
    assert!(imported(argon2).is_ok());
    for wrong in [
        "",
        "plain",
        "$2b$31$C6UzMDM.H6dfI/f/IKcEeO7ZQ1zXBvC2UYl0T4lV6F7hQpQ3GZb5K",
        "$2b$10$short",
        "$argon2id$v=19$m=19456,t=2,p=1",
        &argon2.replace("m=19456", "m=4000000"),
        &argon2.replace("t=2", "t=4000000"),
        "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    ] {
        assert!(imported(wrong).is_err(), "{wrong}");
    }
}
