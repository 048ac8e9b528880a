//! When schedules fire: cron on the clocks of a time zone, intervals, jitter, what was missed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use stella_domain::{
    schedule::{CatchUp, CompiledSchedule, ON_TIME_MS, Overlap, ScheduleSpec, Timing},
    time::Timestamp,
};

fn spec(timing: Timing) -> ScheduleSpec {
    ScheduleSpec {
        catch_up: CatchUp::Skip,
        dag_id: "d".parse().unwrap(),
        dag_version: None,
        end_at: None,
        fire_time_input: None,
        jitter_ms: 0,
        overlap: Overlap::Allow,
        priority: 0,
        start_at: None,
        timing,
    }
}

fn compile(spec: ScheduleSpec) -> CompiledSchedule {
    CompiledSchedule::compile("s".parse().unwrap(), spec).unwrap()
}

fn cron(expression: &str, time_zone: &str) -> CompiledSchedule {
    let (expression, time_zone) = (expression.to_owned(), time_zone.to_owned());
    compile(spec(Timing::Cron { expression, time_zone }))
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_lenient(text).unwrap()
}

/// Times as short as they can be compared: UTC, to the minute.
fn minutes(times: &[Timestamp]) -> Vec<String> {
    times.iter().map(|time| time.to_string()[5..16].to_owned()).collect()
}

fn after(schedule: &CompiledSchedule, from: &str, n: usize) -> Vec<String> {
    minutes(&schedule.between(at(from), Timestamp::from_micros(i64::MAX), n))
}

/// In 2026 clocks in Berlin go forward on 29 March at 01:00 UTC and back on 25 October at 01:00 UTC;
/// in New York forward on 8 March at 07:00 UTC and back on 1 November at 06:00 UTC.
#[test]
fn cron_keeps_to_the_clocks_of_its_time_zone_on_both_changes() {
    type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);
    let cases: &[Case] = &[
        // 03:00 is 02:00 UTC in winter and 01:00 UTC in summer.
        (
            "0 3 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            &["03-28T02:00", "03-29T01:00", "03-30T01:00"],
        ),
        (
            "0 3 * * *",
            "Europe/Berlin",
            "2026-10-23T12:00:00Z",
            &["10-24T01:00", "10-25T02:00", "10-26T02:00"],
        ),
        // 02:30 does not exist on the day: it fires when the clocks have gone forward.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            &["03-28T01:30", "03-29T01:00", "03-30T00:30"],
        ),
        // 02:30 comes twice: it fires once, the first time.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-23T12:00:00Z",
            &["10-24T00:30", "10-25T00:30", "10-26T01:30"],
        ),
        // Every half hour goes on through both: nothing twice at one moment, nothing left out.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:15:00Z",
            &["03-29T00:30", "03-29T01:00", "03-29T01:30"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:15:00Z",
            &["10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00", "10-25T02:30"],
        ),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["03-08T07:00", "03-09T06:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["11-01T05:30", "11-02T06:30"]),
        (
            "0 9 * * MON-FRI",
            "Asia/Kolkata",
            "2026-11-27T12:00:00Z",
            &["11-30T03:30", "12-01T03:30"],
        ),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["02-29T00:00"]),
        ("0 0 L * *", "UTC", "2026-01-01T00:00:00Z", &["01-31T00:00", "02-28T00:00"]),
    ];
    for (expression, zone, from, expected) in cases {
        let found = after(&cron(expression, zone), from, expected.len());
        assert_eq!(&found, expected, "{expression} in {zone} after {from}");
    }
}

#[test]
fn what_is_before_is_what_was_next() {
    for (expression, zone) in
        [("30 2 * * *", "Europe/Berlin"), ("*/20 * * * *", "America/New_York")]
    {
        let schedule = cron(expression, zone);
        for from in ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-10-31T00:00:00Z"] {
            let forward = schedule.between(at(from), Timestamp::from_micros(i64::MAX), 100);
            let last = *forward.last().unwrap();
            let before =
                |time: &Timestamp| schedule.last_at(Timestamp::from_micros(time.as_micros() - 1));
            let mut backward: Vec<_> =
                std::iter::successors(Some(last), before).take(100).collect();
            backward.reverse();
            assert_eq!(forward, backward, "{expression} in {zone} after {from}");
        }
    }
}

#[test]
fn start_and_end_bound_what_fires() {
    let mut bounded = spec(Timing::Every { ms: 3_600_000 });
    bounded.start_at = Some(at("2026-11-28T10:20:00Z"));
    bounded.end_at = Some(at("2026-11-28T13:20:00Z"));
    let schedule = compile(bounded);
    let expected = ["11-28T10:20", "11-28T11:20", "11-28T12:20"];
    assert_eq!(after(&schedule, "2026-11-01T00:00:00Z", 9), expected);
    assert_eq!(schedule.last_at(at("2027-01-01T00:00:00Z")), Some(at("2026-11-28T12:20:00Z")));
    assert_eq!(schedule.last_at(at("2026-11-28T10:19:00Z")), None);
    let once = compile(spec(Timing::Once { at: at("2026-11-28T10:00:00Z") }));
    assert_eq!(after(&once, "2026-11-01T00:00:00Z", 9), ["11-28T10:00"]);
    assert_eq!(once.next_after(at("2026-11-28T10:00:00Z")), None);
}

#[test]
fn what_is_wrong_is_said_all_at_once() {
    let wrong = |spec: ScheduleSpec| {
        let errors = CompiledSchedule::compile("s".parse().unwrap(), spec).unwrap_err();
        errors.into_iter().map(|error| error.path).collect::<Vec<_>>()
    };
    let zoned = |expression: &str, time_zone: &str| {
        let (expression, time_zone) = (expression.to_owned(), time_zone.to_owned());
        spec(Timing::Cron { expression, time_zone })
    };
    let mut everything = zoned("61 * * * *", "Europe/Nowhere");
    everything.jitter_ms = 3_600_001;
    everything.catch_up = CatchUp::All(101.try_into().unwrap());
    (everything.start_at, everything.end_at) =
        (Some(at("2026-11-28T00:00:00Z")), Some(at("2026-11-28T00:00:00Z")));
    assert_eq!(wrong(everything), ["cron", "timeZone", "jitter", "catchUp", "endAt"]);
    assert_eq!(wrong(zoned("0 0 * * * *", "UTC")), ["cron"], "seconds are not taken");
    assert_eq!(wrong(zoned("0 0 30 2 *", "UTC")), ["cron"], "it never fires");
    assert_eq!(wrong(spec(Timing::Every { ms: 999 })), ["every"]);
    let mut piled = spec(Timing::Every { ms: 60_000 });
    piled.jitter_ms = 60_001;
    assert_eq!(wrong(piled), ["jitter"]);
}

#[test]
fn what_would_not_fire_or_would_pile_up_is_wrong_from_the_beginning() {
    let now = at("2026-11-28T12:00:00Z");
    let wrong = |spec: ScheduleSpec| -> Vec<String> {
        let wrong = compile(spec).wrong_from(now).into_iter();
        wrong.map(|error| format!("{}: {}", error.path, error.message)).collect()
    };
    let once = |time: &str| spec(Timing::Once { at: at(time) });
    assert_eq!(wrong(once("2026-11-28T12:00:01Z")), [""; 0]);
    let past = "at: 2026-11-28T12:00:00.000000Z is past, it is 2026-11-28T12:00:00.000000Z: it would never fire";
    assert_eq!(wrong(once("2026-11-28T12:00:00Z")), [past]);
    let ended = ScheduleSpec { end_at: Some(now), ..spec(Timing::Every { ms: 60_000 }) };
    assert!(wrong(ended)[0].starts_with("endAt: no fire time is left before it"));
    let jittered = |expression: &str, jitter_ms| {
        let (expression, time_zone) = (expression.to_owned(), "UTC".to_owned());
        ScheduleSpec { jitter_ms, ..spec(Timing::Cron { expression, time_zone }) }
    };
    assert_eq!(wrong(jittered("*/5 * * * *", 300_000)), [""; 0]);
    let nickname = r#"cron: "@daily" has not five fields, as '0 3 * * *' has"#;
    assert_eq!(wrong(jittered("@daily", 0)), [nickname]);
    assert_eq!(wrong(jittered("0 9 * * *", 3_600_000)), [""; 0]);
    let close = "such as from 2026-11-29T09:00:00.000000Z to 2026-11-29T09:05:00.000000Z";
    assert!(wrong(jittered("0,5 9 * * *", 300_001))[0].contains(close));
}

#[test]
fn what_was_missed_is_caught_up_with_as_far_as_the_policy_says() {
    let hourly =
        |catch_up| compile(ScheduleSpec { catch_up, ..spec(Timing::Every { ms: 3_600_000 }) });
    let (seen, now) = (at("2026-11-28T00:00:00Z"), at("2026-11-28T05:00:30Z"));
    let due = |catch_up| {
        let due = hourly(catch_up).due(seen, None, now);
        let missed = due.missed.map(|(from, to)| minutes(&[from, to]));
        (missed.unwrap_or_default(), minutes(&due.caught_up), minutes(&due.on_time))
    };
    let hours = |hours: &[u32]| -> Vec<String> {
        hours.iter().map(|hour| format!("11-28T{hour:02}:00")).collect()
    };
    assert_eq!(due(CatchUp::Skip), (hours(&[1, 4]), vec![], hours(&[5])));
    assert_eq!(due(CatchUp::Last), (hours(&[1, 3]), hours(&[4]), hours(&[5])));
    let all = |cap: u32| CatchUp::All(cap.try_into().unwrap());
    assert_eq!(due(all(3)), (hours(&[1, 1]), hours(&[2, 3, 4]), hours(&[5])));
    assert_eq!(due(all(10)), (vec![], hours(&[1, 2, 3, 4]), hours(&[5])));
    // What was due while something held the schedule back was missed, a moment ago or not.
    let free_since = |time: &str| {
        let due = hourly(all(2)).due(seen, Some(at(time)), now);
        (minutes(&due.caught_up), minutes(&due.on_time))
    };
    assert_eq!(free_since("2026-11-28T05:00:01Z"), (hours(&[4, 5]), vec![]));
    assert_eq!(free_since("2026-11-28T05:00:00Z"), (hours(&[3, 4]), hours(&[5])));
    // Ten years of nobody being there cost no more than a day of it.
    let due = hourly(all(100)).due(at("2016-11-28T00:00:00Z"), None, now);
    assert_eq!((due.caught_up.len(), due.on_time.len()), (100, 1));
}

fn timings() -> impl Strategy<Value = Timing> {
    let crons =
        prop::sample::select(vec!["*/7 * * * *", "0 3 * * *", "30 2 * * *", "15 */2 * * 1-5"]);
    let zones =
        prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]);
    let cron = (crons, zones).prop_map(|(expression, zone)| Timing::Cron {
        expression: expression.to_owned(),
        time_zone: zone.to_owned(),
    });
    prop_oneof![cron, (60u64..100_000).prop_map(|s| Timing::Every { ms: s * 1_000 })]
}

proptest! {
    /// However often and whenever it is looked at: each fire time is missed, caught up with or on
    /// time exactly once, in order, none early, and nothing that was there in time is missed.
    #[test]
    fn each_fire_time_is_decided_on_once(
        timing in timings(),
        jitter_s in 0u64..60,
        cap in 0u32..5,
        looks in prop::collection::vec(1u64..40_000, 1..25),
    ) {
        let mut spec = spec(timing);
        spec.jitter_ms = jitter_s * 1_000;
        spec.catch_up = cap.try_into().map_or(CatchUp::Skip, CatchUp::All);
        let schedule = compile(spec);
        // Across both changes of the clocks.
        let begin = at("2026-10-24T12:00:00Z");
        let (mut seen, mut now, mut decided) = (begin, begin, vec![]);
        for seconds in looks {
            let before = now;
            now = now.plus_ms(seconds * 1_000);
            let due = schedule.due(seen, None, now);
            if let Some((from, to)) = due.missed {
                let missed = schedule.between(Timestamp::from_micros(from.as_micros() - 1), to, 100_000);
                for time in &missed {
                    prop_assert!(schedule.due_at(*time).plus_ms(ON_TIME_MS) <= now, "{time} in time");
                    prop_assert!(schedule.due_at(*time) > before.plus_ms(0) || *time > seen);
                }
                decided.extend(missed);
            }
            for time in due.caught_up.iter().chain(&due.on_time) {
                prop_assert!(schedule.due_at(*time) <= now, "{time} is early");
                decided.push(*time);
            }
            if let Some(last) = decided.last() {
                seen = seen.max(*last);
            }
            prop_assert!(due.look_again_at.is_none_or(|at| at > now || due.on_time.len() == 128));
        }
        let all = schedule.between(begin, seen, 100_000);
        prop_assert_eq!(decided, all);
    }

    /// Whatever else the schedule says, or comes to say.
    #[test]
    fn jitter_follows_from_schedule_and_time_alone(minutes in 0i64..1_000_000, jitter_ms in 1u64..60_000) {
        let one = ScheduleSpec { jitter_ms, ..spec(Timing::Every { ms: 60_000 }) };
        let other = ScheduleSpec {
            catch_up: CatchUp::Last,
            dag_id: "other".parse().unwrap(),
            dag_version: Some(2),
            jitter_ms,
            overlap: Overlap::Skip,
            priority: 7,
            start_at: Some(Timestamp::from_micros(0)),
            ..spec(Timing::Every { ms: 120_000 })
        };
        let (one, other) = (compile(one), compile(other));
        let time = Timestamp::from_micros(minutes * 60_000_000);
        prop_assert_eq!(one.due_at(time), other.due_at(time));
        prop_assert!(one.due_at(time) >= time && one.due_at(time) <= time.plus_ms(jitter_ms));
    }
}

/// On every machine and in every release: the milliseconds are from another program. BLAKE3 in
/// key-derivation mode with the context `stella-orchestrator 2026-11 jitter v1`, of the id, a slash
/// and the time; the first eight bytes, little-endian, modulo one more than the jitter.
#[test]
fn jitter_is_what_it_always_was() {
    let due_after = |id: &str, jitter_ms: u64, time: &str| {
        let (expression, time_zone) = ("0 3 * * *".to_owned(), "UTC".to_owned());
        let spec = ScheduleSpec { jitter_ms, ..spec(Timing::Cron { expression, time_zone }) };
        let schedule = CompiledSchedule::compile(id.parse().unwrap(), spec).unwrap();
        schedule.due_at(at(time)).as_micros() - at(time).as_micros()
    };
    let (saturday, sunday) = ("2026-11-28T03:00:00Z", "2026-11-29T03:00:00Z");
    let golden = [
        ("nightly", 300_000, saturday, 115_981),
        ("nightly", 300_000, sunday, 292_958),
        ("hourly", 300_000, saturday, 11_304),
        ("hourly", 300_000, sunday, 230_890),
        ("nightly", 59_999, saturday, 46_678),
        ("nightly", 59_999, sunday, 33_177),
        ("hourly", 59_999, saturday, 45_636),
        ("hourly", 59_999, sunday, 51_948),
    ];
    let found = golden.map(|(id, jitter_ms, time, _)| due_after(id, jitter_ms, time));
    assert_eq!(found, golden.map(|(.., ms)| ms * 1_000));
    // Schedules, and the fires of one, do not come together, nor at the very time.
    let different: std::collections::BTreeSet<i64> = found.into_iter().chain([0]).collect();
    assert_eq!(different.len(), golden.len() + 1, "{different:?}");
    assert_eq!(due_after("nightly", 0, saturday), 0);
}
