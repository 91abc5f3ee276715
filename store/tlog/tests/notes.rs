//! Keys, notes and checkpoints, against texts of the published specifications and another program's.

use daybook_tlog::{
    Checkpoint, CheckpointError, KeyError, NOTE_BYTES_MAX, NoteError, SIGNATURES_MAX, Signer, Verifier, hash_leaf,
    open, origin, sign,
};
use uuid::uuid;

// The example of the signed-note specification.
const SPEC_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPEC_NOTE: &str = "This is an example message.\n\n\
    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

// The example of Go's sumdb/note.
const GO_SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n";
const GO_SIGNATURE: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

// Computed by another program, with another Ed25519, from the specification and the seed 00 01 … 1f.
const OWN_VKEY: &str = "daybook/00000000-0000-7000-8000-000000000001/00000000-0000-7000-8000-000000000002\
    +b7224f16+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const OWN_SKEY: &str = "PRIVATE+KEY+daybook/00000000-0000-7000-8000-000000000001/00000000-0000-7000-8000-000000000002\
    +b7224f16+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
const OWN_NOTE: &str = "daybook/00000000-0000-7000-8000-000000000001/00000000-0000-7000-8000-000000000002\n\
    8\n\
    XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\
    \n\
    — daybook/00000000-0000-7000-8000-000000000001/00000000-0000-7000-8000-000000000002 \
    tyJPFjDM9ILi2zeAc2wTK8ciBhTvXzwLKqgcTl16MzDY5T6SlKN9aT+4+lykwMJSR3FhXzrbNxxeji/2KzKisGvqbAg=\n";

// Found by trying numbers as seeds until two keys named `x` had the same id, 00b354f7.
const COLLIDING_SEEDS: [u64; 2] = [33_654, 33_892];

fn seed() -> [u8; 32] {
    std::array::from_fn(|n| u8::try_from(n).unwrap())
}

fn own_origin() -> String {
    origin(uuid!("00000000-0000-7000-8000-000000000001"), uuid!("00000000-0000-7000-8000-000000000002"))
}

fn own_checkpoint() -> Checkpoint {
    let root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    let root = hex::decode(root).unwrap().try_into().unwrap();
    Checkpoint { origin: own_origin(), size: 8, root, extensions: vec![] }
}

fn own_signer() -> Signer {
    Signer::generate(own_origin(), &seed()).unwrap()
}

fn go_note() -> String {
    format!("{GO_TEXT}\n{GO_SIGNATURE}")
}

fn go_verifier() -> Verifier {
    Verifier::from_vkey(GO_VKEY).unwrap()
}

#[test]
fn the_note_of_the_specification_opens() {
    let note = open(SPEC_NOTE.as_bytes(), &[Verifier::from_vkey(SPEC_VKEY).unwrap()]).unwrap();
    assert_eq!(note.text, "This is an example message.\n");
    assert_eq!(note.signatures.len(), 1);
    assert_eq!(note.signatures[0].name, "example.com/foo");
    assert_eq!(note.signatures[0].key_id, 0x530d_903a);
    assert_eq!(note.unknown, []);
}

#[test]
fn keys_and_signatures_are_those_that_another_program_makes() {
    let peter = Signer::from_skey(GO_SKEY).unwrap();
    assert_eq!(peter.vkey(), GO_VKEY);
    assert_eq!(*peter.skey(), GO_SKEY);
    assert_eq!(peter.sign(GO_TEXT), Ok(go_note()));

    let own = own_signer();
    assert_eq!(own.vkey(), OWN_VKEY);
    assert_eq!(*own.skey(), OWN_SKEY);
    assert_eq!(own_checkpoint().sign(&[&own]).unwrap(), OWN_NOTE);
}

#[test]
fn a_checkpoint_comes_back_from_its_note() {
    let verifier = own_signer().verifier();
    let (checkpoint, note) = Checkpoint::open(OWN_NOTE.as_bytes(), &[verifier], &own_origin()).unwrap();
    assert_eq!(checkpoint, own_checkpoint());
    assert_eq!(note.text, own_checkpoint().to_text().unwrap());
}

#[test]
fn extension_lines_come_back_too() {
    let checkpoint = Checkpoint { extensions: vec!["a b".into(), "— ü".into()], ..own_checkpoint() };
    let signed = checkpoint.sign(&[&own_signer()]).unwrap();
    let opened = Checkpoint::open(signed.as_bytes(), &[own_signer().verifier()], &own_origin()).unwrap();
    assert_eq!(opened.0, checkpoint);
}

#[test]
fn a_checkpoint_of_another_tenants_log_is_refused_even_when_its_line_is_renamed() {
    let journal = uuid!("00000000-0000-7000-8000-000000000001");
    let other = origin(journal, uuid!("00000000-0000-7000-8000-000000000003"));
    let other_signer = own_signer().renamed(&other).unwrap();
    // One key, two names: the signature stays right under the other name and id, the text gives it away.
    let moved = Checkpoint { origin: other.clone(), ..own_checkpoint() }.sign(&[&own_signer()]).unwrap();
    let refused = Checkpoint::open(moved.as_bytes(), &[own_signer().verifier()], &own_origin());
    assert_eq!(refused, Err(CheckpointError::OtherOrigin { found: other, expected: own_origin() }));
    let note = own_checkpoint().sign(&[&other_signer]).unwrap();
    let refused = Checkpoint::open(note.as_bytes(), &[own_signer().verifier()], &own_origin());
    assert_eq!(refused, Err(CheckpointError::Note(NoteError::Unverified)));
}

#[test]
fn checkpoint_texts_have_one_spelling_only() {
    let root = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=";
    let short = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQw==";
    let loose = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyh=";
    use CheckpointError as E;
    let cases = [
        (String::new(), E::Lines),
        ("o\n8\n".into(), E::Lines),
        (format!("o\n8\n{root}"), E::Lines),
        (format!("\n8\n{root}\n"), E::Line("origin")),
        (format!("o\n08\n{root}\n"), E::Size),
        (format!("o\n+8\n{root}\n"), E::Size),
        (format!("o\n-8\n{root}\n"), E::Size),
        (format!("o\n\n{root}\n"), E::Size),
        (format!("o\n18446744073709551616\n{root}\n"), E::Size),
        (format!("o\n8\n{short}\n"), E::Root),
        (format!("o\n8\n{loose}\n"), E::Root),
        (format!("o\n8\n{}\n", root.trim_end_matches('=')), E::Root),
        (format!("o\n8\n{root}\n\n"), E::Line("extension line")),
        (format!("o\n8\n{root}\na\n\nb\n"), E::Line("extension line")),
        (format!("o\n8\n{root}\r\n"), E::Root),
        (format!("o\n8\n{root}\na\r\n"), E::Line("extension line")),
    ];
    for (text, error) in cases {
        assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
    }
    let empty = Checkpoint::parse(&format!("o\n0\n{root}\n")).unwrap();
    assert_eq!((empty.size, empty.extensions), (0, vec![]));
}

#[test]
fn a_checkpoint_that_could_not_be_read_back_is_not_written() {
    let broken = |origin: &str, extension: &str| {
        let extensions = vec![extension.to_owned()];
        Checkpoint { origin: origin.into(), extensions, ..own_checkpoint() }.to_text()
    };
    assert_eq!(broken("", "x"), Err(CheckpointError::Line("origin")));
    assert_eq!(broken("a\nb", "x"), Err(CheckpointError::Line("origin")));
    assert_eq!(broken("a", ""), Err(CheckpointError::Line("extension line")));
    assert_eq!(broken("a", "x\ny"), Err(CheckpointError::Line("extension line")));
}

#[test]
fn an_altered_text_or_signature_is_an_error_and_not_ignored() {
    let wrong = NoteError::WrongSignature { name: "PeterNeumann".into(), key_id: 0xc74f_20a3 };
    let altered_text = go_note().replacen("answer", "Answer", 1);
    let altered_signature = go_note().replacen("UgYN1", "UgYN2", 1);
    let short = format!("{GO_TEXT}\n— PeterNeumann x08gowAA\n");
    for note in [altered_text, altered_signature, short] {
        assert_eq!(open(note.as_bytes(), &[go_verifier()]), Err(wrong.clone()), "{note}");
    }
    let right_then_wrong = format!("{}{}", go_note(), GO_SIGNATURE.replacen("UgYN1", "UgYN2", 1));
    assert_eq!(open(right_then_wrong.as_bytes(), &[go_verifier()]), Err(wrong));
}

#[test]
fn signatures_of_unknown_keys_are_ignored_but_do_not_suffice() {
    let enoch = Signer::generate("EnochRoot", &[9; 32]).unwrap();
    let same_name = Signer::generate("PeterNeumann", &[8; 32]).unwrap();
    let peter = Signer::from_skey(GO_SKEY).unwrap();
    let note = sign(GO_TEXT, &[&enoch, &peter, &same_name]).unwrap();
    let opened = open(note.as_bytes(), &[go_verifier()]).unwrap();
    let names = |signatures: &[daybook_tlog::Signature]| -> Vec<_> {
        signatures.iter().map(|s| (s.name.clone(), s.key_id)).collect()
    };
    assert_eq!(names(&opened.signatures), [("PeterNeumann".into(), 0xc74f_20a3)]);
    let others = [("EnochRoot".into(), enoch.key_id()), ("PeterNeumann".into(), same_name.key_id())];
    assert_eq!(names(&opened.unknown), others);

    assert_eq!(open(go_note().as_bytes(), &[]), Err(NoteError::Unverified));
    assert_eq!(open(go_note().as_bytes(), &[enoch.verifier()]), Err(NoteError::Unverified));
}

#[test]
fn one_key_counts_once_however_often_it_signed() {
    let note = format!("{}{GO_SIGNATURE}{GO_SIGNATURE}", go_note());
    assert_eq!(open(note.as_bytes(), &[go_verifier(), go_verifier()]).unwrap().signatures.len(), 1);
}

#[test]
fn text_may_have_empty_lines_and_lines_that_look_like_signatures() {
    let text = format!("\n{}\nmore\n\n", go_note());
    let signer = own_signer();
    let note = signer.sign(&text).unwrap();
    assert_eq!(open(note.as_bytes(), &[signer.verifier()]).unwrap().text, text);
}

#[test]
fn malformed_notes_are_refused_with_the_reason() {
    let lines = |lines: &str| format!("text\n\n{lines}").into_bytes();
    let many = GO_SIGNATURE.repeat(SIGNATURES_MAX + 1);
    use NoteError as E;
    let cases = [
        (b"text\n".to_vec(), E::NoSignatures),
        (lines(""), E::NoSignatures),
        (lines(GO_SIGNATURE.trim_end()), E::NoSignatures),
        (b"text\n\xff\n".to_vec(), E::NotUtf8),
        (b"te\rxt\n".to_vec(), E::ControlCharacter(2)),
        (b"te\0xt\n".to_vec(), E::ControlCharacter(2)),
        (lines("- x AAAAAAA=\n"), E::MalformedSignature(1)),
        (lines("— x\n"), E::MalformedSignature(1)),
        (lines("—  AAAAAAA=\n"), E::MalformedSignature(1)),
        (lines("— x+y AAAAAAA=\n"), E::MalformedSignature(1)),
        (lines("— x\u{a0}y AAAAAAA=\n"), E::MalformedSignature(1)),
        (lines("— x AAAAAA==\n"), E::MalformedSignature(1)),
        (lines("— x !\n"), E::MalformedSignature(1)),
        (lines("— x AAAAAAA=\nrest\n"), E::MalformedSignature(2)),
        (format!("{GO_TEXT}\n{many}").into_bytes(), E::TooManySignatures),
        (vec![b'a'; NOTE_BYTES_MAX + 1], E::TooLarge(NOTE_BYTES_MAX + 1)),
    ];
    for (note, error) in cases {
        assert_eq!(open(&note, &[go_verifier()]), Err(error), "{:.80}", String::from_utf8_lossy(&note));
    }
    let hundred = format!("{GO_TEXT}\n{}", GO_SIGNATURE.repeat(SIGNATURES_MAX));
    assert!(open(hundred.as_bytes(), &[go_verifier()]).is_ok());
}

#[test]
fn a_note_that_could_not_be_read_back_is_not_signed() {
    let signer = own_signer();
    assert_eq!(signer.sign("text"), Err(NoteError::NoFinalNewline));
    assert_eq!(signer.sign(""), Err(NoteError::NoFinalNewline));
    assert_eq!(signer.sign("a\tb\n"), Err(NoteError::ControlCharacter(1)));
    assert_eq!(sign("text\n", &[]), Err(NoteError::NoSignatures));
    assert_eq!(sign("text\n", &[&signer; SIGNATURES_MAX + 1]), Err(NoteError::TooManySignatures));
    let huge = format!("{}\n", "a".repeat(NOTE_BYTES_MAX));
    assert!(matches!(signer.sign(&huge), Err(NoteError::TooLarge(_))));
}

#[test]
fn two_different_keys_under_one_name_and_id_are_refused_as_ambiguous() {
    // Ids have 32 bits, so such a pair can be searched for; these two seeds collide under this name.
    let [a, b] = COLLIDING_SEEDS.map(|n| Signer::generate("x", &seed_of(n)).unwrap());
    assert_eq!(a.key_id(), b.key_id());
    assert_ne!(a.vkey(), b.vkey());
    let note = a.sign("text\n").unwrap();
    let refused = open(note.as_bytes(), &[a.verifier(), b.verifier()]);
    assert_eq!(refused, Err(NoteError::AmbiguousKey { name: "x".into(), key_id: a.key_id() }));
}

fn seed_of(n: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    seed
}

#[test]
fn keys_that_are_not_whole_or_not_their_own_are_refused() {
    let tail = &GO_VKEY[GO_VKEY.len() - 44..];
    let key_id = |found| KeyError::KeyId { name: "PeterNeumann".into(), found, expected: 0xc74f_20a3 };
    let cases = [
        (String::new(), KeyError::MalformedVkey),
        ("PeterNeumann+c74f20a3".into(), KeyError::MalformedVkey),
        (format!("+c74f20a3+{tail}"), KeyError::Name),
        (format!("a b+c74f20a3+{tail}"), KeyError::Name),
        (format!("PeterNeumann+C74F20A3+{tail}"), KeyError::MalformedVkey),
        (format!("PeterNeumann+4f20a3+{tail}"), KeyError::MalformedVkey),
        (format!("PeterNeumann+c74f20a4+{tail}"), key_id(0xc74f_20a4)),
        (format!("{GO_VKEY}A"), KeyError::MalformedVkey),
        (format!("{GO_VKEY}BADKEY=="), KeyError::MalformedVkey),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".into(), KeyError::Algorithm(0x65)),
        // The point of order one: it verifies a signature over anything.
        ("x+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(), KeyError::Weak("x".into())),
    ];
    for (vkey, error) in cases {
        assert_eq!(Verifier::from_vkey(&vkey), Err(error), "{vkey}");
    }
    let skey = |text: &str| Signer::from_skey(text).map(|signer| signer.vkey());
    assert_eq!(skey(GO_VKEY), Err(KeyError::MalformedSkey));
    assert_eq!(skey("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEK"), Err(KeyError::MalformedSkey));
    assert_eq!(skey(&GO_SKEY.replace("c74f20a3", "c74f20a4")), Err(key_id(0xc74f_20a4)));
    assert_eq!(skey(&GO_SKEY.replace("+AYEK", "+AoEK")), Err(KeyError::Algorithm(2)));
    assert!(matches!(Signer::generate("a+b", &seed()), Err(KeyError::Name)));
}

#[test]
fn a_signer_does_not_show_its_secret() {
    let shown = format!("{:?}", own_signer());
    assert_eq!(shown, format!("Signer({}+b7224f16)", own_origin()));
}

#[test]
fn origins_are_names_that_a_key_can_have() {
    let name = own_origin();
    assert_eq!(name, "daybook/00000000-0000-7000-8000-000000000001/00000000-0000-7000-8000-000000000002");
    let root = hash_leaf(b"");
    let checkpoint = Checkpoint { origin: name, size: 1, root, extensions: vec![] };
    assert!(checkpoint.sign(&[&own_signer()]).is_ok());
}
