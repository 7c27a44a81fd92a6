//! The partitions held now, and how far each has been read and committed.

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::transform::{Position, TopicPartition};

/// One partition's progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Offset up to which output is suppressed.
    live_from: i64,
    /// Next offset to be read, once one has been read.
    next: Option<i64>,
    /// What was committed last by this process.
    committed: Option<Position>,
}

/// Everything held.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    partitions: BTreeMap<TopicPartition, Progress>,
}

impl Assignment {
    /// A partition comes; output is suppressed below `live_from`.
    pub(crate) fn insert(&mut self, partition: TopicPartition, live_from: i64) {
        self.partitions.insert(partition, Progress { live_from, ..Progress::default() });
    }

    pub(crate) fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.partitions.remove(partition).is_some()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// A record was read; says whether it is a replayed one, or `None` if its partition is not held.
    pub(crate) fn read(&mut self, topic: &str, partition: i32, offset: i64) -> Option<bool> {
        // A lookup by borrowed parts would need another kind of map; a process holds a few dozen partitions.
        let progress = self
            .partitions
            .iter_mut()
            .find(|(key, _)| key.partition == partition && key.topic == topic)
            .map(|(_, progress)| progress)?;
        progress.next = Some(offset + 1);
        Some(offset < progress.live_from)
    }

    /// Positions that differ from what is committed. `position` is asked for partitions that have been read past the
    /// point where they went live: one that is still being rebuilt must not move backwards.
    pub(crate) fn changed(
        &self,
        mut position: impl FnMut(&TopicPartition, i64) -> Position,
    ) -> Vec<(TopicPartition, Position)> {
        let live = |progress: &Progress| progress.next.filter(|next| *next > progress.live_from);
        self.partitions
            .iter()
            .filter_map(|(partition, progress)| {
                let position = position(partition, live(progress)?);
                (progress.committed.as_ref() != Some(&position)).then(|| (partition.clone(), position))
            })
            .collect()
    }

    pub(crate) fn committed(&mut self, positions: Vec<(TopicPartition, Position)>) {
        for (partition, position) in positions {
            if let Some(progress) = self.partitions.get_mut(&partition) {
                progress.committed = Some(position);
            }
        }
    }
}

/// The list that a commit wants.
pub(crate) fn offsets(positions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, position) in positions {
        let mut element = list.add_partition(&partition.topic, partition.partition);
        element.set_offset(Offset::Offset(position.offset))?;
        if !position.metadata.is_empty() {
            element.set_metadata(&position.metadata);
        }
    }
    Ok(list)
}

/// The partitions of a list.
pub(crate) fn names(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| TopicPartition { topic: element.topic().to_owned(), partition: element.partition() })
        .collect()
}

/// The list of these partitions, without offsets.
pub(crate) fn list<'p>(partitions: impl IntoIterator<Item = &'p TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "segments".to_owned(), partition: number }
    }

    fn at(_: &TopicPartition, next: i64) -> Position {
        Position { offset: next, metadata: String::new() }
    }

    #[test]
    fn only_what_moved_is_committed() {
        let mut assignment = Assignment::default();
        assignment.insert(partition(0), 0);
        assignment.insert(partition(1), 0);
        assert_eq!(assignment.read("segments", 0, 41), Some(false));
        let changed = assignment.changed(at);
        assert_eq!(changed, [(partition(0), Position { offset: 42, metadata: String::new() })]);
        assignment.committed(changed);
        assert_eq!(assignment.changed(at), []);
        assert_eq!(assignment.read("segments", 1, 0), Some(false));
        assert_eq!(assignment.changed(at).len(), 1);
    }

    #[test]
    fn a_partition_being_rebuilt_is_replayed_and_not_committed() {
        let mut assignment = Assignment::default();
        assignment.insert(partition(0), 10);
        assert_eq!(assignment.read("segments", 0, 8), Some(true));
        assert_eq!(assignment.read("segments", 0, 9), Some(true));
        assert_eq!(assignment.changed(at), []);
        assert_eq!(assignment.read("segments", 0, 10), Some(false));
        assert_eq!(assignment.changed(at).len(), 1);
    }

    #[test]
    fn records_of_partitions_not_held_are_told() {
        let mut assignment = Assignment::default();
        assignment.insert(partition(0), 0);
        assert_eq!(assignment.read("segments", 1, 0), None);
        assert_eq!(assignment.read("calls", 0, 0), None);
        assert!(assignment.remove(&partition(0)));
        assert_eq!(assignment.read("segments", 0, 0), None);
    }

    #[test]
    fn offsets_carry_their_metadata() {
        let positions = [(partition(3), Position { offset: 7, metadata: "rewind=5".to_owned() })];
        let list = offsets(&positions).unwrap();
        let elements = list.elements();
        assert_eq!((elements[0].offset(), elements[0].metadata()), (Offset::Offset(7), "rewind=5"));
        assert_eq!(names(&list), [partition(3)]);
    }
}
