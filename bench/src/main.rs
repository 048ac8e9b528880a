//! The benchmark behind `cargo xtask bench`: every figure in one run, on one machine, with the
//! same load on both ledgers. Nothing here is asserted; `docs/performance.md` says what the
//! figures mean.

mod appends;
mod bundles;
mod figures;
mod http;
mod operating;
mod process;
mod queued;
mod reads;
mod runs;
mod server;
mod streams;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use mongodb::bson::{Bson, doc};
use stella_ledger::{
    mongo::{MongoLedger, MongoOptions},
    port::Ledger,
    sqlite::SqliteLedger,
};

use self::{figures::Figures, server::Server};

/// As the server has it, so that what is measured in this process is what users get.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Any failure ends the benchmark: a figure counts only if everything worked.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measure the orchestrator on this machine.
#[derive(Parser)]
struct Args {
    /// The `stella` binary of the release build.
    #[arg(long)]
    stella: PathBuf,
    /// The MongoDB to measure on; started for the purpose when absent.
    #[arg(long, env = "MONGODB_URI")]
    mongodb: Option<String>,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Events in the ledger for the rows that show how costs grow.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Grow the ledger further, to so many events, and look at what a checkpoint costs then.
    #[arg(long, value_name = "EVENTS")]
    checkpoints_at: Option<u64>,
    /// Keep the bundles of the exported ledgers in this directory, each with its key.
    #[arg(long, value_name = "DIR")]
    keep_bundles: Option<PathBuf>,
    /// Only this ledger: mongodb or sqlite.
    #[arg(long)]
    only: Option<String>,
    /// Only these rows.
    #[arg(long, value_enum)]
    rows: Option<Rows>,
    #[command(flatten)]
    sizes: operating::Sizes,
}

/// A part of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rows {
    /// (a) and (b): the writer.
    Appends,
    /// (c): whole runs.
    Runs,
    /// (a) to (j): the record, and what is folded and exported of it.
    Record,
    /// (k) to (o): workers, queue, streams, schedules, large runs.
    Operating,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    more_files()?;
    let mut figures = Figures::new(machine(), commit());
    for ledger in ["mongodb", "sqlite"] {
        if args.only.as_deref().is_none_or(|only| only == ledger) {
            eprintln!("{ledger}:");
            let mut mongo = if ledger == "mongodb" { Some(Mongo::of(&args).await?) } else { None };
            if args.rows != Some(Rows::Operating) {
                measure(&args, mongo.as_ref(), &mut figures).await?;
            }
            if matches!(args.rows, None | Some(Rows::Operating)) {
                let (place, time) = (Place::new(mongo.as_ref()).await?, args.seconds);
                let time = Duration::from_secs(time);
                operating::measure(&args.stella, &place, args.sizes, time, &mut figures).await?;
                place.drop().await?;
            }
            if let Some(Mongo { started: Some(mongod), .. }) = &mut mongo {
                mongod.stop().await?;
            }
        }
    }
    println!("{}\ncommit {}\n", figures.machine, figures.commit);
    println!("{}", figures.table());
    if let Some(parent) = args.json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&args.json, serde_json::to_string_pretty(&figures)?)?;
    eprintln!("as JSON: {}", args.json.display());
    Ok(())
}

/// As many open files as may be: a subscriber is one here, and one in the server.
fn more_files() -> Result<(), Failure> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// `RunCreated`, `RunSucceeded`, and three for each of three steps.
const EVENTS_PER_RUN: f64 = 11.0;

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Double(n) => Some(*n),
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        _ => None,
    }
}

/// The one MongoDB of all rows: that which is given, or one that is started for them.
struct Mongo {
    uri: String,
    started: Option<stella_mongod::Mongod>,
}

impl Mongo {
    async fn of(args: &Args) -> Result<Self, Failure> {
        if let Some(uri) = &args.mongodb {
            return Ok(Self { uri: uri.clone(), started: None });
        }
        let options = stella_mongod::Options { cache_gb: 1.0, ..Default::default() };
        let mongod = stella_mongod::Mongod::start(options).await?;
        Ok(Self { uri: mongod.uri().to_owned(), started: Some(mongod) })
    }
}

/// Where one ledger's measurements take place.
struct Place {
    name: &'static str,
    uri: String,
    ledger: Arc<dyn Ledger>,
    client: Option<mongodb::Client>,
    /// The MongoDB that was started for it.
    mongod: Option<u32>,
    dir: tempfile::TempDir,
}

impl Place {
    /// An empty database there; without MongoDB, an empty file.
    async fn new(mongo: Option<&Mongo>) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let Some(mongo) = mongo else {
            let path = dir.path().join("bench-ledger.db");
            let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&path).await?);
            let uri = format!("sqlite:{}", path.display());
            return Ok(Self { name: "sqlite", uri, ledger, client: None, mongod: None, dir });
        };
        let uri = with_database(&mongo.uri, "stella-bench");
        let client = mongodb::Client::with_uri_str(&uri).await?;
        client.database("stella-bench").drop().await?;
        let ledger = MongoLedger::connect(&uri, MongoOptions::default()).await?;
        ledger.setup().await?;
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let mongod = mongo.started.as_ref().map(stella_mongod::Mongod::id);
        Ok(Self { name: "mongodb", uri, ledger, client: Some(client), mongod, dir })
    }

    /// Bytes that the ledgers take on disk, indexes included.
    async fn stored_bytes(&self) -> Result<f64, Failure> {
        let Some(client) = &self.client else {
            let path = self.dir.path().join("bench-ledger.db");
            return Ok(std::fs::metadata(path)?.len() as f64);
        };
        let stats = client.database("stella-bench").run_command(doc! { "dbStats": 1 }).await?;
        let size = |name: &str| stats.get(name).and_then(number).unwrap_or(0.0);
        Ok(size("storageSize") + size("indexSize"))
    }

    async fn drop(self) -> Result<(), Failure> {
        if let Some(client) = &self.client {
            client.database("stella-bench").drop().await?;
        }
        Ok(())
    }

    fn pids(&self, server: &Server) -> Vec<u32> {
        [Some(std::process::id()), Some(server.pid()), self.mongod].into_iter().flatten().collect()
    }
}

/// Speed on a small ledger first, then on a ledger of its own how costs grow.
async fn measure(args: &Args, mongo: Option<&Mongo>, figures: &mut Figures) -> Result<(), Failure> {
    let time = Duration::from_secs(args.seconds);
    let place = Place::new(mongo).await?;
    if args.rows != Some(Rows::Runs) {
        measure_appends(&place, time, figures).await?;
    }
    if args.rows == Some(Rows::Appends) {
        return place.drop().await;
    }
    let server = Server::start(&args.stella, &place.uri, place.dir.path(), 64).await?;
    server.register_chain("three", 3).await?;
    runs::run_load(&server, 64, Duration::from_secs(2), None).await?;
    let rate = measure_runs(&place, &server, time, figures).await?;
    server.stop().await?;
    place.drop().await?;
    if args.rows == Some(Rows::Runs) {
        return Ok(());
    }

    let place = Place::new(mongo).await?;
    let server = Server::start(&args.stella, &place.uri, place.dir.path(), 64).await?;
    server.register_chain("three", 3).await?;
    let memory = process::memory_mib(server.pid())?;
    figures.put("(h) server memory at 0 events", "MiB", place.name, memory);
    let bench = "bench".parse()?;
    grow(&place, &server, 10_000, Duration::from_millis(100)).await?;
    measure_size(&place, &server, rate, time, "10 k", figures).await?;
    let (bytes, events) = (place.stored_bytes().await?, place.ledger.head(&bench).await?.next_seq);
    grow(&place, &server, args.events, Duration::from_secs(5)).await?;
    let more = (place.ledger.head(&bench).await?.next_seq - events) as f64 / EVENTS_PER_RUN;
    let grown = place.stored_bytes().await? - bytes;
    figures.put("    ledger on disk, a run", "bytes", place.name, grown / more);
    let projections = place.dir.path().join("projections/bench.db");
    let runs = place.ledger.head(&bench).await?.next_seq as f64 / EVENTS_PER_RUN;
    let bytes = std::fs::metadata(projections)?.len() as f64;
    figures.put("    projections on disk, a run", "bytes", place.name, bytes / runs);
    measure_size(&place, &server, rate, time, "grown", figures).await?;
    let streams = streams::hundred_events(&server, &place.ledger, &bench).await?;
    bundles::bundle(&args.stella, &place, &server, args.keep_bundles.as_deref(), figures).await?;
    server.stop().await?;
    for at_once in [1, streams::GATHERED] {
        let rate = streams::cold_loads(&place.ledger, &bench, &streams, at_once, time / 2).await?;
        let row = format!("(g) cold load of a 100-event stream, {at_once} a read");
        figures.put(&row, "loads/s", place.name, rate);
    }
    reads::verify(&place.ledger, &bench, place.dir.path(), place.name, figures).await?;
    bundles::checkpoints(&place, &bench, "grown", figures).await?;
    if let Some(events) = args.checkpoints_at {
        while place.ledger.head(&bench).await?.next_seq < events {
            appends::append(&place.ledger, &bench, 1_000, Duration::from_secs(2)).await?;
        }
        bundles::checkpoints(&place, &bench, &format!("{events} events"), figures).await?;
    }
    place.drop().await
}

/// Runs until the ledger holds `events`.
async fn grow(place: &Place, server: &Server, events: u64, burst: Duration) -> Result<(), Failure> {
    let bench = "bench".parse()?;
    while place.ledger.head(&bench).await?.next_seq < events {
        runs::run_load(server, 64, burst, None).await?;
        eprintln!("  {} events", place.ledger.head(&bench).await?.next_seq);
    }
    Ok(())
}

/// What might grow with the ledger: rows (b), (d), (f) and (h).
async fn measure_size(
    place: &Place,
    server: &Server,
    rate: f64,
    time: Duration,
    size: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let memory = process::memory_mib(server.pid())?;
    figures.put(&format!("(h) server memory, {size}"), "MiB", place.name, memory);
    reads::rebuild(place, &"bench".parse()?, size, figures).await?;
    measure_reads(place, server, rate, time / 2, size, figures).await?;
    // In a tenant of its own, because its runs were never created; in the same collection.
    let tenant = format!("appends-{}", size.replace(' ', "-")).parse()?;
    let appended = appends::append(&place.ledger, &tenant, 64, time / 2).await?;
    let name = format!("(b) append, 64 callers, {size}");
    figures.put(&name, "events/s", place.name, appended.events_per_s);
    Ok(())
}

async fn measure_appends(
    place: &Place,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for callers in [64, 1_000] {
        let tenant = format!("appends-{callers}").parse()?;
        let appended = appends::append(&place.ledger, &tenant, callers, time).await?;
        let name = format!("(b) append, {callers} callers");
        figures.put(&name, "events/s", place.name, appended.events_per_s);
        let commits: usize = appended.batches.iter().sum();
        let mean = commits as f64 / appended.batches.len().max(1) as f64;
        figures.put(&format!("    commits a batch, {callers} callers"), "", place.name, mean);
        let Some(client) = &place.client else { continue };
        let raw = appends::raw_inserts(client, "stella-bench", &tenant, &appended.batches).await?;
        figures.put(
            &format!("(a) raw insert_many, {callers} callers"),
            "events/s",
            place.name,
            raw,
        );
        let name = format!("(b) ÷ (a), {callers} callers");
        figures.put(&name, "", place.name, appended.events_per_s / raw);
    }
    Ok(())
}

/// Row (c); answers the runs per second.
async fn measure_runs(
    place: &Place,
    server: &Server,
    time: Duration,
    figures: &mut Figures,
) -> Result<f64, Failure> {
    let pids = place.pids(server);
    let cpu = || pids.iter().map(|pid| process::cpu_seconds(*pid)).sum::<Result<f64, _>>();
    let before = cpu()?;
    let load = runs::run_load(server, 64, time, None).await?;
    let spent = cpu()? - before;
    let rate = load.runs as f64 / load.elapsed.as_secs_f64();
    let at = place.name;
    figures.put("(c) three-step runs, 64 clients", "runs/s", at, rate);
    figures.put("(c) CPU a run, all processes", "ms", at, spent * 1000.0 / load.runs as f64);
    figures.put("(c) run p50, 64 clients", "ms", at, runs::percentile_ms(&load.latency, 50.0));
    figures.put("(c) run p99, 64 clients", "ms", at, runs::percentile_ms(&load.latency, 99.0));
    if let Some(client) = &place.client {
        let raw = appends::lone_inserts(client, time / 4).await?;
        figures.put(
            "    raw insert of one document p50",
            "ms",
            at,
            runs::percentile_ms(&raw, 50.0),
        );
    }
    let lone = runs::run_load(server, 1, time / 2, None).await?;
    figures.put("(c) lone run p50", "ms", at, runs::percentile_ms(&lone.latency, 50.0));
    figures.put("(c) lone run p99", "ms", at, runs::percentile_ms(&lone.latency, 99.0));
    Ok(rate)
}

/// Row (d): reads at half of the load of (c).
async fn measure_reads(
    place: &Place,
    server: &Server,
    rate: f64,
    time: Duration,
    when: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let known = runs::run_load(server, 64, Duration::from_millis(200), None).await?.last_runs;
    let load = runs::run_load(server, 64, time, Some(rate / 2.0));
    let reads = runs::read_load(server, &known, time);
    let (_, latency) = futures::future::try_join(load, reads).await?;
    for percentile in [50.0, 99.0] {
        let name = format!("(d) GET run p{percentile:.0} at half load, {when}");
        figures.put(&name, "ms", place.name, runs::percentile_ms(&latency, percentile));
    }
    Ok(())
}

/// The URI with this default database.
fn with_database(uri: &str, database: &str) -> String {
    let (base, options) = uri.split_once('?').unwrap_or((uri, ""));
    let hosts_end = base.rfind('/').filter(|at| *at > "mongodb://".len()).unwrap_or(base.len());
    let query = if options.is_empty() { String::new() } else { format!("?{options}") };
    format!("{}/{database}{query}", &base[..hosts_end])
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib: f64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    format!(
        "{cores} cores of {model}, {:.0} GiB, Linux {}",
        kib / 1048576.0,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let changed = git(&["status", "--porcelain"]).is_some_and(|status| !status.is_empty());
    if changed { format!("{commit}+") } else { commit }
}
