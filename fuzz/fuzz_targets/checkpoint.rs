//! Notes and keys: whatever is read is read as the one text that says it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stella_domain::checkpoint::{Note, PinnedKey, VerifierKey, WitnessKey};

const KEY: &str = "stella.example/acme+af485d92+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

fuzz_target!(|text: &str| {
    let keys: Vec<PinnedKey> = vec![KEY.parse().unwrap()];
    if let Ok(note) = Note::parse(text) {
        let body = note.checkpoint().body();
        assert!(text.starts_with(&body), "another text than {body:?} says the same");
        // Whether it is signed is looked at without a panic, too.
        let _ = note.signed_by(&keys);
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<WitnessKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<PinnedKey>() {
        assert_eq!(key.to_string().parse::<PinnedKey>().unwrap(), key);
    }
});
