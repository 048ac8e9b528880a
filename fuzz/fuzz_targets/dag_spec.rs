//! DAG specs: what was accepted once is accepted for ever, as it is stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stella_domain::{
    dag::{DagSpec, PluginCatalog},
    ids::PluginName,
};

/// Every plugin is there, with the actions that specs of the corpus name.
struct AnyPlugin;

impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(["noop", "echo", "sleep", "fail"].map(str::to_owned).into())
    }
}

fuzz_target!(|text: &str| {
    match DagSpec::parse(text, &AnyPlugin) {
        Ok(spec) => {
            let stored = DagSpec::from_stored(spec.canonical()).expect("it was registered");
            assert_eq!(stored.digest(), spec.digest());
            assert_eq!(stored.canonical().as_str(), spec.canonical().as_str());
        }
        Err(errors) => assert!(!errors.to_string().is_empty(), "an error says what is wrong"),
    }
});
