//! The events of a window, from a server. A transfer that breaks off is taken up where it was.

use std::time::Duration;

use reqwest::Response;
use stella_verify::LINE_BYTES;

use super::Window;
use crate::{client::Client, exit::Exit, failure::Failure};

/// How often it is tried again without coming further, with pauses that double up to the longest:
/// about half a minute together, in which a server can be started anew.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How far a transfer has come.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// `seq` of the next event.
    next: u64,
    /// One past the last.
    end: u64,
}

/// Hand whole lines to `take`, in order, until all of the window's events have come.
pub(crate) async fn download(
    client: &Client,
    window: Window,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut place, mut attempts) = (None, 0);
    loop {
        let before = place.map(|Place { next, .. }| next);
        let broke = match transfer(client, window, &mut place, take).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // Where nothing has come at all there is nothing to go on from.
        let Some(reached) = place.filter(|_| broke.exit == Exit::Unavailable) else {
            return Err(broke);
        };
        attempts = if Some(reached.next) == before { attempts + 1 } else { 0 };
        if attempts == ATTEMPTS {
            return Err(broke);
        }
        tokio::time::sleep(LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(attempts))).await;
    }
}

/// One transfer, from `place` on.
async fn transfer(
    client: &Client,
    window: Window,
    place: &mut Option<Place>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut query = window.query();
    query.extend(place.map(|place| ("fromSeq", place.next.to_string())));
    let mut response = client.open("/ledger/export", &query).await?;
    let announced = announced(&response)?;
    let place = place.get_or_insert(announced);
    if announced.end != place.end {
        return Err(Failure::not_verified(format!(
            "the window ended before seq {}, and now before seq {}: a closed window does not change",
            place.end, announced.end
        )));
    }
    let mut begun = vec![];
    while let Some(piece) = client.next_piece(&mut response).await? {
        let piece = piece.as_ref();
        let whole = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (whole, rest) = piece.split_at(whole);
        if !whole.is_empty() {
            place.next += whole.iter().filter(|byte| **byte == b'\n').count() as u64;
            if begun.is_empty() {
                take(whole)?;
            } else {
                begun.extend_from_slice(whole);
                take(&begun)?;
                begun.clear();
            }
        }
        begun.extend_from_slice(rest);
        if begun.len() > LINE_BYTES {
            return Err(Failure::failed("the server sends lines that are longer than any event"));
        }
    }
    if begun.is_empty() && place.next == place.end {
        return Ok(());
    }
    let what = format!("the export ended at seq {} of {}", place.next, place.end);
    Err(Failure::unavailable(what).try_this("see what the server's log says about it"))
}

/// Which events a server is about to send.
fn announced(response: &Response) -> Result<Place, Failure> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse().ok();
    match (number("ledger-first-seq"), number("ledger-end-seq")) {
        (Some(next), Some(end)) => Ok(Place { next, end }),
        _ => Err(Failure::failed("the server does not say which events it sends")
            .try_this("use the same release on both sides: `stella --version`")),
    }
}
