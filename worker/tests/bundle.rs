//! What is loaded as a plugin bundle, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, os::unix::fs::symlink};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use common::{bundle_dir, write_script};
use ed25519_dalek::{Signer as _, SigningKey};
use rstest::rstest;
use serde_json::{Value, json};
use stella_worker::{
    Bundle, BundleError,
    bundle::{file_digest, sign_manifest},
    pack::pack,
};

const ZERO_DIGEST: &str = "b3:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_bundle_loads_and_is_named_by_the_digest_of_its_manifest() {
    let dir = bundle_dir("true", |_| ());
    let bundle = Bundle::load(dir.path(), &[]).unwrap();
    assert_eq!(bundle.name().as_str(), "test");
    assert_eq!(bundle.digest(), file_digest(&dir.path().join("plugin.json")).unwrap());
    assert!(bundle.entry().is_absolute());
}

#[rstest]
#[case::unknown_field("/surprise", json!(1), "surprise")]
#[case::unknown_entry_field("/entry/env", json!({}), "env")]
#[case::unknown_action_field("/actions/go/input", json!({}), "input")]
#[case::unknown_limit("/limits", json!({"cpu": 1}), "cpu")]
#[case::other_runtime("/runtime", json!("wasm"), "wasm")]
#[case::bad_name("/name", json!("a b"), "plugin name")]
#[case::empty_version("/version", json!(""), "version")]
#[case::no_actions("/actions", json!({}), "actions")]
#[case::bad_action("/actions", json!({"a b": {}}), "a b")]
#[case::entry_not_listed("/entry/file", json!("other.sh"), "other.sh")]
#[case::traversal("/files", json!({"../run.sh": ZERO_DIGEST}), "../run.sh")]
#[case::hidden_traversal("/files", json!({"a/../run.sh": ZERO_DIGEST}), "a/../run.sh")]
#[case::absolute("/files", json!({"/bin/sh": ZERO_DIGEST}), "/bin/sh")]
#[case::two_names("/files", json!({"./run.sh": ZERO_DIGEST}), "./run.sh")]
#[case::no_name("/files", json!({"": ZERO_DIGEST}), "not a path")]
#[case::bad_digest("/files", json!({"run.sh": "b3:xyz"}), "64 lower-case hex")]
#[case::bad_schema("/actions/go/inputs", json!({"type": "nonsense"}), "actions.go.inputs")]
#[case::remote_schema("/actions/go/outputs", json!({"$ref": "https://example.com/s"}), "example.com")]
#[case::too_much_output("/limits", json!({"outputKb": 1001}), "outputKb")]
#[case::no_memory("/limits", json!({"memoryMb": 0}), "memoryMb")]
fn a_wrong_manifest_is_refused(#[case] at: &str, #[case] value: Value, #[case] says: &str) {
    let dir = bundle_dir("true", |manifest| {
        let (parent, name) = at.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap()[name] = value;
    });
    let error = Bundle::load(dir.path(), &[]).expect_err(at);
    assert!(matches!(error, BundleError::Manifest { .. }), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_manifest_with_a_duplicate_member_is_refused() {
    let dir = bundle_dir("true", |_| ());
    let path = dir.path().join("plugin.json");
    let text = fs::read_to_string(&path).unwrap().replacen('{', r#"{"name":"other","#, 1);
    fs::write(&path, text).unwrap();
    let error = Bundle::load(dir.path(), &[]).unwrap_err();
    assert!(error.to_string().contains("duplicate"), "{error}");
}

#[test]
fn a_changed_file_is_refused() {
    let dir = bundle_dir("true", |_| ());
    write_script(&dir.path().join("run.sh"), "false");
    let error = Bundle::load(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, BundleError::Digest { .. }), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = Bundle::load(empty.path(), &[]).unwrap_err();
    assert!(error.to_string().contains("plugin.json"), "{error}");
    let dir = bundle_dir("true", |_| ());
    fs::remove_file(dir.path().join("run.sh")).unwrap();
    let error = Bundle::load(dir.path(), &[]).unwrap_err();
    assert!(error.to_string().contains("run.sh"), "{error}");
}

#[rstest]
#[case::file("run.sh")]
#[case::manifest("plugin.json")]
fn a_symbolic_link_is_refused(#[case] name: &str) {
    let dir = bundle_dir("true", |_| ());
    let (path, elsewhere) = (dir.path().join(name), dir.path().join("elsewhere"));
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let error = Bundle::load(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, BundleError::NotPlain { .. }), "{error}");
}

#[test]
fn a_path_through_a_linked_directory_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    write_script(&outside.path().join("lib.sh"), "true");
    let digest = file_digest(&outside.path().join("lib.sh")).unwrap();
    let dir = bundle_dir("true", |manifest| manifest["files"]["sub/lib.sh"] = json!(digest));
    symlink(outside.path(), dir.path().join("sub")).unwrap();
    let error = Bundle::load(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, BundleError::NotPlain { .. }), "{error}");
}

#[test]
fn trusted_keys_take_only_what_one_of_them_signed() {
    let (ours, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let trusted = [other.verifying_key(), ours.verifying_key()];
    let dir = bundle_dir("true", |_| ());
    let load = || Bundle::load(dir.path(), &trusted);
    assert!(matches!(load(), Err(BundleError::Unsigned { .. })));

    let (manifest, signature) = (dir.path().join("plugin.json"), dir.path().join("plugin.sig"));
    let text = fs::read(&manifest).unwrap();
    fs::write(&signature, sign_manifest(&text, &ours) + "\n").unwrap();
    assert!(load().is_ok());

    // By a stranger; over something else; malformed.
    let stranger = SigningKey::from_bytes(&[3; 32]);
    for bad in [
        sign_manifest(&text, &stranger),
        sign_manifest(b"{}", &ours),
        "AAAA".into(),
        "not base64!".into(),
        String::new(),
    ] {
        fs::write(&signature, &bad).unwrap();
        assert!(matches!(load(), Err(BundleError::Signature { .. })), "{bad:?}");
    }
    // A good signature, and the manifest changed after it.
    fs::write(&signature, sign_manifest(&text, &ours)).unwrap();
    fs::write(&manifest, [&text[..], b"\n"].concat()).unwrap();
    assert!(matches!(load(), Err(BundleError::Signature { .. })));
}

#[test]
fn a_signature_is_over_the_context_and_the_bytes_of_the_manifest() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let by_hand = key.sign(b"stella-orchestrator plugin bundle v1\n{\"name\":1}").to_bytes();
    assert_eq!(sign_manifest(br#"{"name":1}"#, &key), BASE64_STANDARD.encode(by_hand));
}

/// A directory as an author has it: a plugin.json without digests.
fn unpacked() -> tempfile::TempDir {
    let dir = bundle_dir("true", |manifest| {
        manifest.as_object_mut().unwrap().remove("files");
    });
    fs::create_dir_all(dir.path().join("lib/deep")).unwrap();
    fs::write(dir.path().join("lib/deep/rules.txt"), "rules").unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/config"), "not part of it").unwrap();
    dir
}

#[test]
fn what_is_packed_is_loaded_with_every_file_in_it() {
    let dir = unpacked();
    assert!(matches!(Bundle::load(dir.path(), &[]), Err(BundleError::Manifest { .. })));
    let bundle = pack(dir.path(), None).unwrap();
    let files: Vec<&str> = bundle.manifest().files.keys().map(String::as_str).collect();
    assert_eq!(files, ["lib/deep/rules.txt", "run.sh"]);
    let packed = fs::read(dir.path().join("plugin.json")).unwrap();
    assert_eq!(pack(dir.path(), None).unwrap().digest(), bundle.digest(), "the same again");
    assert_eq!(fs::read(dir.path().join("plugin.json")).unwrap(), packed);
    fs::write(dir.path().join("lib/deep/rules.txt"), "other rules").unwrap();
    assert!(matches!(Bundle::load(dir.path(), &[]), Err(BundleError::Digest { .. })));
    assert_ne!(pack(dir.path(), None).unwrap().digest(), bundle.digest());
    Bundle::load(dir.path(), &[]).unwrap();
}

#[test]
fn a_packed_bundle_is_signed_by_the_key_and_by_none_without_one() {
    let dir = unpacked();
    let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    fs::remove_dir_all(dir.path().join(".git")).unwrap();
    pack(dir.path(), Some(&key)).unwrap();
    Bundle::load(dir.path(), &[key.verifying_key()]).unwrap();
    let wrong = Bundle::load(dir.path(), &[other.verifying_key()]);
    assert!(matches!(wrong, Err(BundleError::Signature { .. })), "{wrong:?}");
    pack(dir.path(), None).unwrap();
    let unsigned = Bundle::load(dir.path(), &[key.verifying_key()]);
    assert!(matches!(unsigned, Err(BundleError::Unsigned { .. })), "{unsigned:?}");
}

#[test]
fn what_cannot_be_a_bundle_is_left_as_it_is() {
    let dir = unpacked();
    let manifest = dir.path().join("plugin.json");
    symlink("/etc/hostname", dir.path().join("lib/link")).unwrap();
    let before = fs::read(&manifest).unwrap();
    let linked = pack(dir.path(), None);
    assert!(matches!(linked, Err(BundleError::NotPlain { .. })), "{linked:?}");
    assert_eq!(fs::read(&manifest).unwrap(), before);
    fs::remove_file(dir.path().join("lib/link")).unwrap();
    let mut broken: Value = serde_json::from_slice(&before).unwrap();
    broken["actions"]["go"]["inputs"] = json!({"type": "nonsense"});
    fs::write(&manifest, broken.to_string()).unwrap();
    assert!(pack(dir.path(), None).unwrap_err().to_string().contains("actions.go.inputs"));
    assert_eq!(fs::read_to_string(&manifest).unwrap(), broken.to_string());
    fs::write(&manifest, r#"{"name":"test"}"#).unwrap();
    let incomplete = pack(dir.path(), None).unwrap_err().to_string();
    assert!(incomplete.contains("missing field"), "{incomplete}");
    assert_eq!(fs::read(&manifest).unwrap(), br#"{"name":"test"}"#);
}

/// A program may take any file beside it for one of its own.
#[test]
fn what_is_not_listed_is_not_loaded_beside_it() {
    let dir = unpacked();
    let key = SigningKey::from_bytes(&[7; 32]);
    let trusted = [key.verifying_key()];
    // What begins with a dot is left out, and is too much where signatures are asked for.
    let hidden = pack(dir.path(), Some(&key));
    assert!(matches!(hidden, Err(BundleError::Unlisted { .. })), "{hidden:?}");
    pack(dir.path(), None).unwrap();
    fs::remove_dir_all(dir.path().join(".git")).unwrap();
    pack(dir.path(), Some(&key)).unwrap();
    Bundle::load(dir.path(), &trusted).unwrap();
    fs::write(dir.path().join(".env"), "A=1").unwrap();
    let hidden = Bundle::load(dir.path(), &trusted);
    assert!(matches!(hidden, Err(BundleError::Unlisted { .. })), "{hidden:?}");
    Bundle::load(dir.path(), &[]).unwrap();
    fs::remove_file(dir.path().join(".env")).unwrap();
    fs::write(dir.path().join("lib/json.py"), "print('mine')").unwrap();
    for trusted in [&trusted[..], &[]] {
        let added = Bundle::load(dir.path(), trusted);
        assert!(matches!(added, Err(BundleError::Unlisted { .. })), "{added:?}");
    }
    assert_eq!(pack(dir.path(), Some(&key)).unwrap().manifest().files.len(), 3);
}

#[test]
fn an_entry_that_cannot_be_run_is_refused() {
    let dir = unpacked();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(dir.path().join("run.sh"), mode(0o644)).unwrap();
    let refused = pack(dir.path(), None);
    assert!(matches!(refused, Err(BundleError::NotExecutable { .. })), "{refused:?}");
    fs::set_permissions(dir.path().join("run.sh"), mode(0o755)).unwrap();
    pack(dir.path(), None).unwrap();
    fs::set_permissions(dir.path().join("run.sh"), mode(0o644)).unwrap();
    assert!(matches!(Bundle::load(dir.path(), &[]), Err(BundleError::NotExecutable { .. })));
}
