//! Binance USD-M futures: spot's dialect with a matching time and with `pu`, the id of the message before. Source:
//! developers.binance.com, "USDS-Margined Futures - Diff. Book Depth Streams".

use super::binance::{scan_levels, Dialect};
use super::scan::Scan;
use crate::event::{Chain, Decoded};

/// Book messages are of the matching time and chain on `pu`.
pub static USDM: Dialect = Dialect { book_time: "T", chained: true, scan_depth };

/// The layout that the market sends, byte for byte:
///
/// {"e":"depthUpdate","E":1571889248277,"T":1571889248276,"s":"BTCUSDT","U":390497796,"u":390497878,"pu":390497794,
///  "b":[["7403.89","0.002"],["7403.90","3.906"]],"a":[["7405.96","3.340"]]}
fn scan_depth(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"{"e":"depthUpdate","E":"#)?;
    scan.unsigned()?;
    scan.literal(br#","T":"#)?;
    let ts_event = scan.epoch()?;
    scan.literal(br#","s":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","U":"#)?;
    let first = scan.unsigned()?;
    scan.literal(br#","u":"#)?;
    let last = scan.unsigned()?;
    scan.literal(br#","pu":"#)?;
    let chain = Chain { first, last, previous: scan.unsigned()? };
    scan_levels(scan, symbol, chain, ts_event, out)
}
