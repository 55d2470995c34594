//! The names that a loop wants of its venue's list of instruments: the list is cut down to them where it is fetched, so that
//! neither the loop nor its journal has to do with megabytes.

use crate::session::InstrumentPlan;
use crate::venues::shorten_list;
use crate::wire::Shorten;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Every symbol that was ever held: the session itself passes over what is not held any more.
#[derive(Clone, Default)]
pub(super) struct WantedNames(Arc<Mutex<Arc<BTreeSet<String>>>>);

impl WantedNames {
    pub(super) fn add(&self, instruments: &[InstrumentPlan]) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = Arc::make_mut(&mut names);
        for instrument in instruments {
            names.insert(instrument.symbol.clone());
        }
    }

    /// What the fetcher does with a list of this decoder's venue. It looks at the names when the list has come.
    pub(super) fn shorten(&self, decoder: &str) -> Shorten {
        let (wanted, decoder) = (self.clone(), decoder.to_string());
        Shorten(Arc::new(move |body: Vec<u8>| {
            let names = wanted.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let is_wanted = |symbol: &[u8]| std::str::from_utf8(symbol).is_ok_and(|symbol| names.contains(symbol));
            shorten_list(&decoder, &body, is_wanted).unwrap_or(body)
        }))
    }
}
