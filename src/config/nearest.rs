//! What somebody may have meant: the known word nearest to an unknown one.

/// The known word that differs from `word` in the fewest letters, if it differs in few enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let meant: Vec<char> = word.to_lowercase().replace('-', "_").chars().collect();
    let near = (meant.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&meant, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_strange_word_is_not() {
        let known = ["backlog", "listener", "start_timeout", "user", "nice"];
        assert_eq!(nearest("baklog", known), Some("backlog"));
        assert_eq!(nearest("listeners", known), Some("listener"));
        assert_eq!(nearest("start-timeout", known), Some("start_timeout"));
        assert_eq!(nearest("StartTimeout", known), Some("start_timeout"));
        assert_eq!(nearest("usre", known), Some("user"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
