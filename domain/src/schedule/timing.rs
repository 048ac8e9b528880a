//! The times of a schedule: what comes next, what is due, what was missed.

use std::str::FromStr as _;

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::{
    CatchUp, MAX_CATCH_UP, MAX_INTERVAL_MS, MAX_JITTER_MS, MIN_INTERVAL_MS, ON_TIME_MS,
    ScheduleError, ScheduleSpec, Timing,
};
use crate::{hash, ids::ScheduleId, time::Timestamp};

/// Fires that are looked at in one go; what is due beyond them is looked at next.
const AT_ONCE: usize = 128;
/// Fires to come that are looked at for whether they are too close.
const LOOKED_AHEAD: usize = 64;

/// A checked schedule.
#[derive(Debug, Clone)]
pub struct CompiledSchedule {
    id: ScheduleId,
    spec: ScheduleSpec,
    cron: Option<(Cron, Tz)>,
}

/// What is due of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueFires {
    /// First and last of the fire times that come to nothing because nobody was there for them.
    pub missed: Option<(Timestamp, Timestamp)>,
    /// Fire times that were missed and are caught up with, earliest first.
    pub caught_up: Vec<Timestamp>,
    /// Fire times that are due now, earliest first.
    pub on_time: Vec<Timestamp>,
    /// When to look again; `None` when nothing more comes.
    pub look_again_at: Option<Timestamp>,
}

impl CompiledSchedule {
    /// Check a spec as a whole.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn compile(id: ScheduleId, spec: ScheduleSpec) -> Result<Self, Vec<ScheduleError>> {
        let mut errors = vec![];
        let mut wrong = |path, message: String| errors.push(ScheduleError { path, message });
        let mut cron = None;
        match &spec.timing {
            Timing::Cron { expression, time_zone } => {
                let parsed = cron_parser().parse(expression);
                let zone = Tz::from_str(time_zone);
                match (parsed, zone) {
                    (Ok(parsed), Ok(zone)) => cron = Some((parsed, zone)),
                    (parsed, zone) => {
                        if let Err(error) = parsed {
                            wrong(
                                "cron",
                                match wrong_field(expression) {
                                    Some((field, name)) => format!(
                                        "{expression:?}: {field:?} is no {name} of a cron \
                                         expression: {error}"
                                    ),
                                    None => format!(
                                        "{expression:?} is no cron expression of five fields: \
                                         {error}"
                                    ),
                                },
                            );
                        }
                        if zone.is_err() {
                            wrong(
                                "timeZone",
                                format!(
                                    "there is no time zone {time_zone:?}: write a name such as Europe/Berlin or UTC"
                                ),
                            );
                        }
                    }
                }
            }
            Timing::Every { ms } => {
                if !(MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(ms) {
                    wrong("every", "an interval is from 1s to 7d".to_owned());
                }
                if spec.jitter_ms > *ms {
                    wrong(
                        "jitter",
                        "it is longer than the interval: fires would pile up".to_owned(),
                    );
                }
            }
            Timing::Once { .. } => {}
        }
        if spec.jitter_ms > MAX_JITTER_MS {
            wrong("jitter", "jitter is an hour at most".to_owned());
        }
        if matches!(spec.catch_up, CatchUp::All(cap) if cap.get() > MAX_CATCH_UP) {
            wrong("catchUp", format!("at most {MAX_CATCH_UP} missed fires are caught up with"));
        }
        if let (Some(start), Some(end)) = (spec.start_at, spec.end_at)
            && start >= end
        {
            wrong("endAt", format!("it is not after startAt, which is {start}"));
        }
        let compiled = Self { id, spec, cron };
        // A date that never comes, such as 30 February.
        if errors.is_empty() && compiled.next_after(Timestamp::from_micros(i64::MIN)).is_none() {
            errors.push(ScheduleError {
                path: "cron",
                message: "it never fires between startAt and endAt".to_owned(),
            });
        }
        if errors.is_empty() { Ok(compiled) } else { Err(errors) }
    }

    /// What is wrong with beginning it at `now`, though it holds together.
    pub fn wrong_from(&self, now: Timestamp) -> Vec<ScheduleError> {
        // The parser knows nicknames as well.
        if let Timing::Cron { expression, .. } = &self.spec.timing
            && expression.split_whitespace().count() != 5
        {
            let message = format!("{expression:?} has not five fields, as '0 3 * * *' has");
            return vec![ScheduleError { path: "cron", message }];
        }
        let times = self.between(now, Timestamp::from_micros(i64::MAX), LOOKED_AHEAD);
        if times.is_empty() {
            let (path, what) = match self.spec.timing {
                Timing::Once { at } if at <= now => ("at", format!("{at} is past")),
                _ => ("endAt", "no fire time is left before it".to_owned()),
            };
            let message = format!("{what}, it is {now}: it would never fire");
            return vec![ScheduleError { path, message }];
        }
        let close = times.windows(2).min_by_key(|two| two[1].ms_since(two[0]));
        match close.filter(|two| self.spec.jitter_ms > two[1].ms_since(two[0])) {
            None => vec![],
            Some(two) => {
                let message = format!(
                    "it is longer than from one fire to the next, such as from {} to {}: fires \
                     would pile up",
                    two[0], two[1]
                );
                vec![ScheduleError { path: "jitter", message }]
            }
        }
    }

    /// The schedule.
    pub fn id(&self) -> &ScheduleId {
        &self.id
    }

    /// What its author wants.
    pub fn spec(&self) -> &ScheduleSpec {
        &self.spec
    }

    /// The first fire time after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let spec = &self.spec;
        let after = spec.start_at.map_or(after, |start| after.max(before(start)));
        let next = match &spec.timing {
            Timing::Once { at } => Some(*at).filter(|at| *at > after),
            Timing::Every { ms } => {
                let (anchor, every) = (self.anchor(), micros(*ms));
                let passed = (after.as_micros().saturating_sub(anchor)).div_euclid(every);
                let next = passed.checked_add(1)?.checked_mul(every)?.checked_add(anchor)?;
                Some(Timestamp::from_micros(next))
            }
            Timing::Cron { .. } => {
                let (cron, zone) = self.cron.as_ref()?;
                // The crate counts whole seconds.
                let from = zoned(*zone, after.as_micros().div_euclid(1_000_000).max(0))?;
                let next = cron.find_next_occurrence(&from, false).ok()?;
                Some(Timestamp::from_micros(next.timestamp_micros()))
            }
        };
        next.filter(|next| spec.end_at.is_none_or(|end| *next < end))
    }

    /// The last fire time at or before `at`.
    pub fn last_at(&self, at: Timestamp) -> Option<Timestamp> {
        let spec = &self.spec;
        let at = spec.end_at.map_or(at, |end| at.min(before(end)));
        let last = match &spec.timing {
            Timing::Once { at: once } => Some(*once).filter(|once| *once <= at),
            Timing::Every { ms } => {
                let (anchor, every) = (self.anchor(), micros(*ms));
                let passed = (at.as_micros().saturating_sub(anchor)).div_euclid(every);
                Some(Timestamp::from_micros(passed.checked_mul(every)?.checked_add(anchor)?))
            }
            Timing::Cron { .. } => {
                let (cron, zone) = self.cron.as_ref()?;
                let from = zoned(*zone, at.as_micros().div_euclid(1_000_000))?;
                let last = cron.find_previous_occurrence(&from, true).ok()?;
                Some(Timestamp::from_micros(last.timestamp_micros()))
            }
        };
        last.filter(|last| spec.start_at.is_none_or(|start| *last >= start))
    }

    /// Fire times in `(after, until]`, earliest first, at most `most` of them.
    pub fn between(&self, after: Timestamp, until: Timestamp, most: usize) -> Vec<Timestamp> {
        let next = std::iter::successors(self.next_after(after), |time| self.next_after(*time));
        next.take_while(|time| *time <= until).take(most).collect()
    }

    /// When the fire of this time is due. The same on every machine: it follows from schedule and
    /// fire time alone.
    pub fn due_at(&self, fire_time: Timestamp) -> Timestamp {
        match self.spec.jitter_ms {
            0 => fire_time,
            most => fire_time.plus_ms(hash::jitter(&self.id, fire_time) % (most + 1)),
        }
    }

    /// What is due at `now` of the fire times after `seen`, the last that was decided on. What was due
    /// before `free_since` was missed, however short a time ago: something held the schedule back.
    pub fn due(&self, seen: Timestamp, free_since: Option<Timestamp>, now: Timestamp) -> DueFires {
        let mut due = DueFires::default();
        let late = |time: Timestamp| {
            let due_at = self.due_at(time);
            now.ms_since(due_at) > ON_TIME_MS || free_since.is_some_and(|since| due_at < since)
        };
        // Whatever is older than this is late, whatever its jitter.
        let window = micros(self.spec.jitter_ms + ON_TIME_MS);
        let mut late_until = seen.max(Timestamp::from_micros(now.as_micros() - window));
        let mut next = self.next_after(late_until);
        while let Some(time) = next.filter(|time| self.due_at(*time) <= now) {
            if due.on_time.len() == AT_ONCE {
                break;
            }
            if due.on_time.is_empty() && late(time) {
                late_until = time;
            } else {
                due.on_time.push(time);
            }
            next = self.next_after(time);
        }
        due.look_again_at = next.map(|time| self.due_at(time));
        let cap = match self.spec.catch_up {
            CatchUp::Skip => 0,
            CatchUp::Last => 1,
            CatchUp::All(cap) => cap.get() as usize,
        };
        let previous = |time: Timestamp| self.last_at(time).filter(|time| *time > seen);
        let latest = std::iter::successors(previous(late_until), |time| previous(before(*time)));
        due.caught_up = latest.take(cap).collect();
        due.caught_up.reverse();
        let missed_until = due.caught_up.first().map_or(late_until, |first| before(*first));
        if let (Some(first), Some(last)) = (self.next_after(seen), previous(missed_until)) {
            due.missed = Some((first, last));
        }
        due
    }

    fn anchor(&self) -> i64 {
        self.spec.start_at.map_or(0, Timestamp::as_micros)
    }
}

fn cron_parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

/// The first field of an expression of five that no expression can have there, and what it is.
fn wrong_field(expression: &str) -> Option<(&str, &'static str)> {
    let names = ["minute", "hour", "day of the month", "month", "day of the week"];
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let places = fields.into_iter().zip(names).enumerate();
    if expression.split_whitespace().count() != names.len() {
        return None;
    }
    let alone = |i: usize, field: &str| {
        let all = (0..names.len()).map(|place| if place == i { field } else { "*" });
        all.collect::<Vec<_>>().join(" ")
    };
    let wrong =
        |(i, (field, _)): &(usize, (&str, &str))| cron_parser().parse(&alone(*i, field)).is_err();
    places.filter(wrong).map(|(_, found)| found).next()
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000)
}

/// The moment before.
fn before(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_sub(1))
}

fn zoned(zone: Tz, seconds: i64) -> Option<DateTime<Tz>> {
    let time = DateTime::<Utc>::from_timestamp(seconds, 0)?;
    Some(zone.from_utc_datetime(&time.naive_utc()))
}
