# The native tests, which need no Python: ctest --test-dir FOLDER runs them.
enable_testing()
set(tests ${CMAKE_CURRENT_LIST_DIR})
set(fuzz ${tests}/../fuzz)
add_library(test_mutating OBJECT ${fuzz}/mutate.cc ${fuzz}/mutate_bytes.cc ${fuzz}/fit.cc
            ${fuzz}/tensors.cc ${fuzz}/write.cc)
target_link_libraries(test_mutating PUBLIC tinyvox_core)

function(add_native_test name)
  add_executable(test_${name} ${tests}/test_${name}.cc)
  target_link_libraries(test_${name} PRIVATE tinyvox_core)
  target_include_directories(test_${name} PRIVATE native/include)
  target_compile_definitions(test_${name} PRIVATE TINYVOX_SEEDS="${fuzz}/seeds")
endfunction()

foreach(name alloc busy file kernels mutations rans stream)
  add_native_test(${name})
endforeach()
target_sources(test_kernels PRIVATE ${tests}/check_matrices.cc ${tests}/check_vectors.cc)
target_link_libraries(test_file PRIVATE test_mutating)
target_link_libraries(test_mutations PRIVATE test_mutating)
foreach(name busy stream)
  target_sources(test_${name} PRIVATE ${c_api})
endforeach()

foreach(name file kernels mutations rans stream)
  add_test(NAME ${name} COMMAND test_${name})
endforeach()
add_test(NAME alloc COMMAND test_alloc ${fuzz}/seeds/tvx/card-log_mel.tvx)
# Calls of several threads meet only while a model is busy for a while.
add_test(NAME busy COMMAND test_busy ${tests}/../../models/commands/commands-60x.tvx)
