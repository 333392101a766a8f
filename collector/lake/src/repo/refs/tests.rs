//! The log against a plain list.

use std::sync::Arc;

use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::store::LakeStore;
use crate::testing::{Fault, FaultStore};

fn update(n: usize) -> RefUpdate {
    RefUpdate {
        commit: (!n.is_multiple_of(7)).then(|| CommitId::digest_of(&n.to_le_bytes())),
        op: if n.is_multiple_of(7) { RefOp::Delete } else { RefOp::Commit },
        writer: format!("w{n}"),
        write_id: Uuid::new_v4(),
        time_us: 0,
        reason: String::new(),
    }
}

fn fault(kind: u8) -> Fault {
    let key = "heads".to_owned();
    match kind {
        0 => Fault::DropResponse { key, times: 1 },
        1 => Fault::ExistsAfterOwn { key, times: 1 },
        2 => Fault::ConflictWithoutObject { key, times: 2 },
        3 => Fault::FailWrite(1),
        _ => Fault::None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain list: whoever knows the head wins, whoever does not is told the entry that beat it, whatever
    /// the store answers; and every reader, fresh or old, sees the same log.
    #[test]
    fn refs_behave_like_a_list(steps in proptest::collection::vec((0usize..50, 0u8..8, 0usize..3), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
            let store = LakeStore::new("memory:///lake", Arc::clone(&faults) as Arc<dyn object_store::ObjectStore>, None);
            let clients: Vec<ObjectStoreRefs> = (0..3).map(|_| ObjectStoreRefs::new(store.clone())).collect();
            let main = RefName::main();
            let mut model: Vec<Head> = Vec::new();
            for (n, (behind, kind, client)) in steps.into_iter().enumerate() {
                // Mostly the head is known; now and then it is that of some entries ago.
                let known = model.len().saturating_sub(if behind < 10 { behind } else { 0 });
                let expect = model[..known].last().cloned();
                let update = update(n);
                faults.set(fault(kind));
                let answer = clients[client].publish(&main, expect.as_ref(), &update).await;
                faults.set(Fault::None);
                match answer {
                    Ok(head) => {
                        prop_assert_eq!(known, model.len());
                        prop_assert_eq!((head.seq, &head.commit), (known as u64 + 1, &update.commit));
                        model.push(head);
                    }
                    Err(PublishError::Conflict(head)) => prop_assert_eq!(&*head, &model[known]),
                    Err(e) => panic!("{e}"),
                }
                let seen = clients[(client + 1) % 3].head(&main).await.unwrap();
                prop_assert_eq!(seen.as_ref(), model.last());
            }
            let fresh = ObjectStoreRefs::new(store);
            let mut history = fresh.history(&main, usize::MAX).await.unwrap();
            history.reverse();
            prop_assert_eq!(history, model);
            Ok(())
        })?;
    }
}
