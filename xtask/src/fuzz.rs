//! `cargo xtask fuzz [TARGET…]`: what reads foreign bytes, on bytes that nobody thought of.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use futures::future::join_all;
use tokio::process::Command;

use crate::{Failure, child};

/// Targets, each with the files that show it what its input looks like.
const TARGETS: &[(&str, &[&str])] = &[
    ("archive", &[]),
    ("bundle", &[]),
    ("checkpoint", &["fixtures/tampered/good/bundle", "fixtures/tampered/good_witnessed/bundle"]),
    ("dag_spec", &["fixtures/dag-specs", "fixtures/dags"]),
    ("lines", &["fixtures/ledgers", "fixtures/tampered/good/bundle"]),
    ("receipt", &[]),
];
/// What a fuzzer needs to see which code its input has reached: the flags of cargo-fuzz, without a
/// sanitizer, which only nightly compilers have. There is no unsafe code here to sanitize.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// Run fuzz targets, for a while each. Needs a C++ compiler, for libFuzzer.
///
/// What was found before is tried first: a corpus of its own is kept in fuzz/corpus. An input that
/// fails is kept in fuzz/artifacts, and given as TARGET's only input with `-- FILE`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which ones; all of them unless said otherwise.
    targets: Vec<String>,
    /// How long each is run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// What to pass on to libFuzzer, such as a file that failed.
    #[arg(last = true)]
    pass_on: Vec<String>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let known = |name: &String| TARGETS.iter().any(|(target, _)| target == name);
    if let Some(unknown) = args.targets.iter().find(|name| !known(name)) {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        return Err(
            format!("there is no target {unknown:?}; there are {}", names.join(", ")).into()
        );
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let host = host().await?;
    let mut build = Command::new(child::cargo());
    build.args(["build", "--release", "--target", &host]).current_dir(root.join("fuzz"));
    // Build scripts and macros are for this machine, and are not what is looked at: with a target
    // named, the flags are not theirs.
    build.env("RUSTFLAGS", FLAGS).env_remove("CARGO_TARGET_DIR");
    let built = child::run(build).await?;
    if !built.success() {
        return Ok(child::exit_code(built));
    }
    let binaries = root.join("fuzz/target").join(host).join("release");
    let chosen = |name: &str| args.targets.is_empty() || args.targets.iter().any(|t| t == name);
    let chosen: Vec<_> = TARGETS.iter().filter(|(name, _)| chosen(name)).collect();
    // One more than there are cores: those that write files wait for the disk at times.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    for some in chosen.chunks(at_once) {
        let running = some.iter().map(|(name, seeds)| {
            let command = fuzzer(&root, &binaries, name, seeds, &args);
            async move { child::run(command?).await }
        });
        for status in join_all(running).await {
            let status = status?;
            if !status.success() {
                return Ok(child::exit_code(status));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fuzzer(
    root: &Path,
    binaries: &Path,
    name: &str,
    seeds: &[&str],
    args: &Args,
) -> Result<Command, Failure> {
    let (corpus, artifacts) =
        (root.join("fuzz/corpus").join(name), root.join("fuzz/artifacts").join(name));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(binaries.join(name));
    command.current_dir(root).arg(format!("-artifact_prefix={}/", artifacts.display()));
    // One input takes a thousandth of this; memory that grows is a finding, too.
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={}", args.seconds)).args(&args.pass_on);
    if args.pass_on.iter().all(|argument| argument.starts_with('-')) {
        let seeds: Vec<PathBuf> = seeds.iter().map(|seed| root.join(seed)).collect();
        command.arg(corpus).args(seeds);
    }
    Ok(command)
}

/// The triple of this machine.
async fn host() -> Result<String, Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().await?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV does not name its host")?.to_owned())
}
