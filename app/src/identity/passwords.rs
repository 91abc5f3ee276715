//! Passwords: how they are hashed and compared, on a bounded number of threads of their own.
//!
//! A hash is meant to be slow, so it never runs where requests are served, and no more of them run or wait at once than
//! the machine has room for: whoever comes then is told to come back. Refuses to log, keep or compare a password
//! anywhere else.

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use daybook_domain::InvalidValue;
use daybook_store::system::SharedSystem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Characters of a password.
pub const CHARS_MIN: usize = 10;
pub const CHARS_MAX: usize = 256;

/// What an imported hash may cost to compare, so that none of them stops all logins.
const IMPORTED_MEMORY_KIB_MAX: u32 = 256 * 1_024;
const IMPORTED_WORK_KIB_MAX: u64 = 1 << 20;
const IMPORTED_BCRYPT_COST_MAX: u32 = 14;

/// How passwords are hashed, and how many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashOptions {
    /// KiB of memory that one hash fills.
    pub memory_kib: u32,
    /// How often it does.
    pub passes: u32,
    pub lanes: u32,
    /// Hashes that run at once.
    pub threads: usize,
    /// Callers that wait or are served at once; others are told to come back.
    pub queue_max: usize,
}

impl Default for HashOptions {
    /// The first of the parameters that OWASP's cheat sheet of password storage names for Argon2id, and all processors
    /// but one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        HashOptions { memory_kib: 19_456, passes: 2, lanes: 1, threads: cores.saturating_sub(1).max(1), queue_max: 200 }
    }
}

impl HashOptions {
    fn params(&self) -> Result<Params, HashError> {
        Params::new(self.memory_kib, self.passes, self.lanes, None).map_err(|_| HashError::Parameters)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error(
        "identity: the parameters of the password hash are out of range; give at least 8 KiB per lane, 1 pass and 1 lane"
    )]
    Parameters,
    #[error("too many passwords are being checked at the moment; try again in {0:?}")]
    Busy(Duration),
    #[error("a password could not be hashed")]
    Failed,
}

/// A password on its way. Nothing shows it.
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<String>>);

impl Password {
    /// As somebody typed it to log in.
    pub fn typed(text: String) -> Self {
        Password(Arc::new(Zeroizing::new(text)))
    }

    /// One to be set. Long counts, what it is made of does not.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn parse(path: &'static [&'static str], text: String) -> Result<Self, InvalidValue> {
        let password = Self::typed(text);
        let chars = password.0.chars().count();
        if chars < CHARS_MIN {
            return Err(InvalidValue::new(
                path,
                "TOO_SHORT",
                format!("a password has at least {CHARS_MIN} characters"),
            ));
        }
        if chars > CHARS_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", format!("a password has at most {CHARS_MAX} characters")));
        }
        Ok(password)
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn is_too_long(&self) -> bool {
        self.0.len() > CHARS_MAX * 4
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A hash that was made elsewhere and may be imported.
///
/// # Errors
/// When it is of no kind that is known, or too dear to compare.
pub fn imported(hash: &str) -> Result<String, InvalidValue> {
    let refused = |why: &str| InvalidValue::new(&["hash"], "MALFORMED", format!("the hash cannot be imported: {why}"));
    if hash.len() > 512 {
        return Err(refused("it is too long"));
    }
    if is_bcrypt(hash) {
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok()).unwrap_or(u32::MAX);
        let whole = hash.len() == 60 && (4..=IMPORTED_BCRYPT_COST_MAX).contains(&cost);
        return if whole {
            Ok(hash.to_owned())
        } else {
            Err(refused("a bcrypt hash has 60 characters and a cost of 4 to 14"))
        };
    }
    let parsed = PasswordHash::new(hash).map_err(|_| refused("it is neither bcrypt ($2…) nor Argon2 ($argon2id$…)"))?;
    let params = Params::try_from(&parsed).map_err(|_| refused("its parameters cannot be read"))?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if parsed.hash.is_none() || parsed.salt.is_none() {
        return Err(refused("it is not whole"));
    }
    if params.m_cost() > IMPORTED_MEMORY_KIB_MAX || work > IMPORTED_WORK_KIB_MAX || params.p_cost() > 16 {
        return Err(refused("it costs more than 256 MiB or 1 GiB of work to compare"));
    }
    Ok(hash.to_owned())
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// What a comparison says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the password. With a new hash of it, where the old one is not what would be made today.
    Right(Option<String>),
    Wrong,
}

/// The work that has been done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hashed {
    /// Hashes that were made, to keep or to compare.
    pub runs: u64,
    /// Memory that they filled, each as often as it did, in KiB. None of bcrypt's.
    pub kib: u64,
}

/// Counts it.
#[derive(Default)]
struct Work {
    runs: AtomicU64,
    kib: AtomicU64,
}

impl Work {
    fn count(&self, params: Option<&Params>) {
        let kib = params.map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()));
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.kib.fetch_add(kib, Ordering::Relaxed);
    }
}

/// Hashes and compares. Cloning is cheap.
#[derive(Clone)]
pub struct Passwords {
    inner: Arc<Inner>,
}

struct Inner {
    options: HashOptions,
    params: Params,
    system: SharedSystem,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    work: Work,
    /// Compared where there is no password, so that nobody can tell by the time it takes.
    dummy: String,
}

impl Passwords {
    /// # Errors
    /// When the parameters are out of range.
    pub fn new(options: HashOptions, system: SharedSystem) -> Result<Self, HashError> {
        let params = options.params()?;
        let mut nobody = [0u8; 32];
        system.random(&mut nobody);
        let work = Work::default();
        let dummy = hash(&params, &nobody, system.as_ref(), &work)?;
        let running = Arc::new(Semaphore::new(options.threads.max(1)));
        let waiting = Arc::new(Semaphore::new(options.queue_max.max(1)));
        Ok(Passwords { inner: Arc::new(Inner { options, params, system, running, waiting, work, dummy }) })
    }

    /// The work that has been done so far.
    pub fn hashed(&self) -> Hashed {
        let Work { runs, kib } = &self.inner.work;
        Hashed { runs: runs.load(Ordering::Relaxed), kib: kib.load(Ordering::Relaxed) }
    }

    /// # Errors
    /// [`HashError::Busy`] when there is no room.
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        let inner = self.inner.clone();
        self.apart(move || hash(&inner.params, password.bytes(), inner.system.as_ref(), &inner.work)).await?
    }

    /// Compares with a hash, or with none at the same price.
    ///
    /// # Errors
    /// [`HashError::Busy`] when there is no room.
    pub async fn compare(&self, password: Password, stored: Option<String>) -> Result<Verdict, HashError> {
        let inner = self.inner.clone();
        self.apart(move || {
            let is_somebodys = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&inner.dummy);
            // Nobody's password is that long, and hashing it is work for nothing.
            let right = !password.is_too_long() && is_right(password.bytes(), stored, &inner.work) && is_somebodys;
            if !right {
                return Verdict::Wrong;
            }
            let old = is_bcrypt(stored) || !is_of(&inner.params, stored);
            let anew = || hash(&inner.params, password.bytes(), inner.system.as_ref(), &inner.work).ok();
            Verdict::Right(old.then(anew).flatten())
        })
        .await
    }

    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
        let Ok(_place) = self.inner.waiting.clone().try_acquire_owned() else {
            return Err(HashError::Busy(self.patience()));
        };
        let turn = self.inner.running.clone().acquire_owned().await.map_err(|_| HashError::Failed)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            // Held until it is done, also when nobody waits for it any more.
            drop(turn);
            done
        })
        .await
        .map_err(|_| HashError::Failed)
    }

    /// A guess at when there is room again.
    fn patience(&self) -> Duration {
        Duration::from_secs(1 + u64::try_from(self.inner.options.queue_max / 100).unwrap_or_default())
    }
}

fn hash(
    params: &Params,
    password: &[u8],
    system: &dyn daybook_store::system::System,
    work: &Work,
) -> Result<String, HashError> {
    work.count(Some(params));
    let mut salt = [0u8; 16];
    system.random(&mut salt);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hashed = argon2.hash_password_with_salt(password, &salt).map_err(|_| HashError::Failed)?;
    Ok(hashed.to_string())
}

fn is_right(password: &[u8], stored: &str, work: &Work) -> bool {
    if is_bcrypt(stored) {
        work.count(None);
        return bcrypt::verify(password, stored).unwrap_or(false);
    }
    // The parameters are those of the hash.
    PasswordHash::new(stored).is_ok_and(|parsed| {
        work.count(Params::try_from(&parsed).ok().as_ref());
        Argon2::default().verify_password(password, &parsed).is_ok()
    })
}

/// Whether a hash is what would be made today.
fn is_of(params: &Params, stored: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    let theirs = Params::try_from(&parsed).ok();
    let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    parsed.algorithm == Algorithm::Argon2id.ident() && theirs.is_some_and(|theirs| cost(&theirs) == cost(params))
}

#[cfg(test)]
mod tests;
