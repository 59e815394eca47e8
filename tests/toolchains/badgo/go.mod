module badgo

go 1.21
