//! Entries of names that no site lists, which come one by one for as long as the process runs. They are
//! spread over shards, so that one more copies only those beside it.

use std::collections::HashMap;
use std::sync::Arc;

use super::Entry;

/// Shards: a thousand names are then copied sixteen at a time.
const SHARDS: usize = 64;

type Shard = Arc<HashMap<Box<[u8]>, Arc<Entry>>>;

/// See the module. A copy shares all of it.
#[derive(Clone, Debug)]
pub(super) struct Demanded {
    shards: Arc<Vec<Shard>>,
}

impl Default for Demanded {
    fn default() -> Self {
        Self { shards: Arc::new(vec![Shard::default(); SHARDS]) }
    }
}

impl Demanded {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.shards.get(place(name))?.get(name)
    }

    pub(super) fn put(&mut self, name: &[u8], entry: Option<Arc<Entry>>) {
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(place(name)) else { return };
        match entry {
            Some(entry) => drop(Arc::make_mut(shard).insert(name.into(), entry)),
            None if shard.contains_key(name) => drop(Arc::make_mut(shard).remove(name)),
            None => {}
        }
    }
}

/// The shard of a name, by FNV-1a: who chooses names well can only make changes cost more.
fn place(name: &[u8]) -> usize {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash % SHARDS as u64) as usize
}
