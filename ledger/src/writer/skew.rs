//! The clock rule: a writer whose clock is wrong does not write (ledger format, section 4).

use stella_domain::{chain::Head, limits::CLOCK_TOLERANCE_MICROS, time::Timestamp};

use crate::{
    clock::Clock,
    port::{Ledger, LedgerError},
};

/// Own clock minus the storage server's, in microseconds, as far as it is certain: the server read
/// its clock somewhen between the question and its answer.
pub(super) async fn compare(ledger: &dyn Ledger, clock: &dyn Clock) -> Result<i64, LedgerError> {
    let asked = clock.now();
    let server = ledger.server_time().await?;
    let answered = clock.now();
    let Some(server) = server else { return Ok(0) };
    let ahead = asked.as_micros() - server.as_micros();
    let behind = answered.as_micros() - server.as_micros();
    Ok(if ahead > 0 { ahead } else { behind.min(0) })
}

/// What is wrong with the clock, if anything is.
pub(super) fn fault(now: Timestamp, skew_micros: i64, head: &Head) -> Option<String> {
    let seconds = |micros: i64| micros / 1_000_000;
    let behind = head.recorded_at.as_micros() - now.as_micros();
    if behind > CLOCK_TOLERANCE_MICROS {
        let last = head.recorded_at;
        return Some(format!("it stands {} s behind the last event ({last})", seconds(behind)));
    }
    if skew_micros.abs() > CLOCK_TOLERANCE_MICROS {
        let skew = seconds(skew_micros);
        return Some(format!("it differs by {skew} s from the storage server's"));
    }
    None
}
