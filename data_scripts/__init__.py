import itr_lib  # before any command imports torch: how threads wait
