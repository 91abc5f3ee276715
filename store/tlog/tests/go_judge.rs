//! Go's own transparency log (`golang.org/x/mod/sumdb`) judges what is made here, and what it makes is judged
//! here. Needs Go and that module; says so and passes without them, unless `DAYBOOK_GO_JUDGE=required`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use daybook_tlog::{
    Checkpoint, Hash, Leaf, RightEdge, Signer, Verifier, hash_leaf, origin, prove_consistency, prove_inclusion,
    verify_consistency, verify_inclusion,
};
use serde_json::{Value, json};
use uuid::Uuid;

const SIZES: u64 = 40;

fn leaf_bytes(index: u64) -> Vec<u8> {
    let leaf = Leaf {
        tenant: Uuid::from_u128(7),
        tenant_position: index + 1,
        stream_type: "reading",
        stream_id: Uuid::from_u128(8),
        sequence: index + 1,
        event_id: Uuid::from_u128(u128::from(index)),
        event_type: "energy.reading.taken",
        event_version: 3,
        recorded_at_us: 1_767_225_600_000_000,
        payload_sha256: hash_leaf(&index.to_be_bytes()),
        metadata_sha256: hash_leaf(b"{}"),
    };
    let mut bytes = Vec::new();
    leaf.encode(&mut bytes);
    bytes
}

struct Log {
    origin: String,
    signer: Signer,
    records: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
    roots: Vec<Hash>,
}

impl Log {
    fn new() -> Self {
        let origin = origin(Uuid::from_u128(1), Uuid::from_u128(7));
        let signer = Signer::generate(&origin, &[5; 32]).unwrap();
        let records: Vec<_> = (0..SIZES).map(leaf_bytes).collect();
        let leaves: Vec<_> = records.iter().map(|record| hash_leaf(record)).collect();
        let mut edge = RightEdge::empty();
        let mut roots = vec![edge.root()];
        for leaf in &leaves {
            edge.push(*leaf);
            roots.push(edge.root());
        }
        Self { origin, signer, records, leaves, roots }
    }

    fn checkpoint(&self, size: u64, root: &Hash) -> String {
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: *root, extensions: vec![] };
        checkpoint.sign(&[&self.signer]).unwrap()
    }

    /// Everything that can be proved, and notes that must not be believed.
    fn as_case(&self) -> Value {
        let leaves = self.leaves.as_slice();
        let checkpoints: Vec<_> = (0_u64..).zip(&self.roots).map(|(size, root)| self.checkpoint(size, root)).collect();
        let (mut inclusions, mut consistencies) = (Vec::new(), Vec::new());
        for size in 1..=SIZES {
            for index in 0..size {
                let proof = prove_inclusion(leaves, index, size).unwrap();
                inclusions.push(json!({ "index": index, "size": size, "proof": proof_as_text(&proof) }));
                let old = index + 1;
                let proof = prove_consistency(leaves, old, size).unwrap();
                consistencies.push(json!({ "old": old, "new": size, "proof": proof_as_text(&proof) }));
            }
        }
        let impostor = Signer::generate(&self.origin, &[6; 32]).unwrap();
        let forged = [
            checkpoints[3].replacen("\n3\n", "\n4\n", 1),
            impostor.sign("some text\n").unwrap(),
            checkpoints[3].trim_end().to_owned(),
        ];
        json!({
            "origin": self.origin,
            "vkey": self.signer.vkey(),
            "skey": *self.signer.skey(),
            "records": self.records.iter().map(|record| BASE64_STANDARD.encode(record)).collect::<Vec<_>>(),
            "checkpoints": checkpoints,
            "forged": forged,
            "inclusions": inclusions,
            "consistencies": consistencies,
        })
    }
}

fn proof_as_text(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect()
}

fn proof_of(value: &Value) -> Vec<Hash> {
    let hashes = value["proof"].as_array().map(Vec::as_slice).unwrap_or_default();
    hashes.iter().map(|hash| BASE64_STANDARD.decode(hash.as_str().unwrap()).unwrap().try_into().unwrap()).collect()
}

fn at(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap()
}

fn of<T>(list: &[T], index: u64) -> &T {
    &list[usize::try_from(index).unwrap()]
}

/// The `go` program: on the path, or where distributions keep their versions.
fn find_go() -> Option<PathBuf> {
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versioned = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let versioned = versioned.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("go-")));
    on_path.map(|folder| folder.join("go")).chain(versioned.map(|folder| folder.join("bin/go"))).find(|go| go.is_file())
}

/// A GOPATH that holds x/mod: the environment's, or the one that Debian installs libraries into.
fn find_gopath() -> Option<PathBuf> {
    let given =
        std::env::var_os("GOPATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    given.chain(["/usr/share/gocode".into()]).find(|path| path.join("src/golang.org/x/mod/sumdb/tlog").is_dir())
}

/// Go's answer, or what it has to object.
fn judge(go: &Path, gopath: &Path, case: &Value) -> Result<Value, String> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut child = Command::new(go)
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go_judge/main.go"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", gopath)
        .env("GOCACHE", scratch.join("go-cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The judge reads to the end before it writes, so neither side can wait for the other.
    child.stdin.take().unwrap().write_all(case.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn gos_own_log_and_ours_convince_each_other() {
    let (Some(go), Some(gopath)) = (find_go(), find_gopath()) else {
        let required = std::env::var("DAYBOOK_GO_JUDGE").is_ok_and(|value| value == "required");
        let why = "no `go` (package golang-go) or no golang.org/x/mod (package golang-golang-x-mod-dev) found";
        assert!(!required, "{why}, and DAYBOOK_GO_JUDGE=required");
        println!("SKIPPED: {why}");
        return;
    };
    let log = Log::new();
    let case = log.as_case();
    let answer = judge(&go, &gopath, &case).unwrap();

    // Everything that Go signed and proved, checked here.
    let verifier = Verifier::from_vkey(answer["vkey"].as_str().unwrap()).unwrap();
    let checkpoints = answer["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.len(), log.roots.len());
    for ((size, note), root) in (0_u64..).zip(checkpoints).zip(&log.roots) {
        let note = note.as_str().unwrap().as_bytes();
        let (opened, _) = Checkpoint::open(note, std::slice::from_ref(&verifier), &log.origin).unwrap();
        assert_eq!((opened.size, opened.root), (size, *root));
    }
    let inclusions = answer["inclusions"].as_array().unwrap();
    assert_eq!(inclusions.len(), case["inclusions"].as_array().unwrap().len());
    for given in inclusions {
        let (index, size, proof) = (at(given, "index"), at(given, "size"), proof_of(given));
        let checked = verify_inclusion(of(&log.leaves, index), index, size, &proof, of(&log.roots, size));
        assert_eq!(checked, Ok(()), "leaf {index} of {size}");
    }
    let consistencies = answer["consistencies"].as_array().unwrap();
    assert_eq!(consistencies.len(), case["consistencies"].as_array().unwrap().len());
    for given in consistencies {
        let (old, new, proof) = (at(given, "old"), at(given, "new"), proof_of(given));
        let checked = verify_consistency(old, of(&log.roots, old), new, of(&log.roots, new), &proof);
        assert_eq!(checked, Ok(()), "{old} to {new}");
    }
    println!(
        "judged both ways: {} checkpoints, {} inclusion proofs, {} consistency proofs",
        checkpoints.len(),
        inclusions.len(),
        consistencies.len()
    );
}

#[test]
fn the_judge_refuses_a_wrong_proof() {
    let (Some(go), Some(gopath)) = (find_go(), find_gopath()) else {
        println!("SKIPPED: see the other test");
        return;
    };
    let mut case = Log::new().as_case();
    case["inclusions"][100]["proof"][0] = case["inclusions"][101]["proof"][0].clone();
    let objection = judge(&go, &gopath, &case).unwrap_err();
    assert!(objection.contains("leaf 9 of 14: invalid transparency proof"), "{objection}");
}
