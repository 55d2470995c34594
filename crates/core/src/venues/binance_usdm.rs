//! Binance USD-M futures: spot's dialect with a matching time and with `pu`, the id of the message before. Source:
//! developers.binance.com, "USDS-Margined Futures - Diff. Book Depth Streams".
//!
//! {"e":"depthUpdate","E":1571889248277,"T":1571889248276,"s":"BTCUSDT","U":390497796,"u":390497878,"pu":390497794,
//!  "b":[["7403.89","0.002"],["7403.90","3.906"]],"a":[["7405.96","3.340"]]}

use super::binance::Dialect;
use super::binance_scan::scan_usdm;

/// Book messages are of the matching time and chain on `pu`.
pub static USDM: Dialect = Dialect { book_time: "T", chained: true, scan: scan_usdm };
