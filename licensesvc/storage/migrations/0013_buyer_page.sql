-- compatible-from: 1
-- Reserved.

SELECT 1;
