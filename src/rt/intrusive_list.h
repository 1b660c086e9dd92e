// A doubly linked ring whose nodes take themselves off when they die: what waits lives in its own
// coroutine frame.
//
// Thread: one loop. No allocation; every operation O(1).
#pragma once

namespace pixii::rt {

/// A node, or the head of a list (a node that holds nothing). A ring that lost its head is
/// harmless: its nodes unlink from each other as they die.
class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;

  ~ListNode() { Unlink(); }

  /// For a node: whether it is on a list. For a head: whether the list has nodes.
  bool linked() const { return next_ != this; }

  ListNode* next() const { return next_; }

  void Unlink() {
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = this;
  }

  /// Puts `node` at the end of the list that this heads. Pre: it is on no list.
  void PushBack(ListNode& node) {
    node.prev_ = prev_;
    node.next_ = this;
    prev_->next_ = &node;
    prev_ = &node;
  }

  /// Moves all nodes of the list `from` to the end of this one.
  void Splice(ListNode& from) {
    if (!from.linked()) {
      return;
    }
    from.next_->prev_ = prev_;
    prev_->next_ = from.next_;
    from.prev_->next_ = this;
    prev_ = from.prev_;
    from.prev_ = from.next_ = &from;
  }

 private:
  ListNode* prev_ = this;
  ListNode* next_ = this;
};

}  // namespace pixii::rt
