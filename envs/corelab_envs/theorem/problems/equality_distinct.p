% Domain   : equality of objects in double quotes
% Status   : Theorem
fof(kinds, axiom, ! [X] : (X = "apple" | X = "pear")).
fof(goal, conjecture, ! [X] : (X = "apple" => X != "pear")).
