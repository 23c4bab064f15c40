# The fuzz targets, for our driver or for libFuzzer (Clang only). Usually with TINYVOX_SANITIZE;
# without it more inputs are tried in a second, and only results are compared.
option(TINYVOX_LIBFUZZER "Build the fuzz targets for libFuzzer" OFF)
enable_language(C)

if(TINYVOX_LIBFUZZER)
  set(driver libfuzzer.cc)
  target_compile_options(tinyvox_core PRIVATE -fsanitize=fuzzer-no-link)
  set(at_link -fsanitize=fuzzer)
else()
  set(driver driver.cc)
  # Where a file decides what is done, and not in loops over frames and weights, which take the time.
  foreach(room coded container file model monotone ngram ngram_file records shapes word_list)
    set_property(SOURCE native/src/${room}.cc APPEND PROPERTY COMPILE_OPTIONS -fsanitize-coverage=trace-pc)
  endforeach()
endif()
target_compile_definitions(tinyvox_core PRIVATE _GLIBCXX_ASSERTIONS)

set(fuzz ${CMAKE_CURRENT_LIST_DIR})
add_library(fuzz_mutations OBJECT ${fuzz}/mutate.cc ${fuzz}/mutate_bytes.cc ${fuzz}/fit.cc
            ${fuzz}/tensors.cc ${fuzz}/write.cc ${fuzz}/cost.cc ${fuzz}/${driver})
target_link_libraries(fuzz_mutations PUBLIC tinyvox_core)

function(add_target name)
  add_executable(${name} ${ARGN} ${c_api})
  target_link_libraries(${name} PRIVATE fuzz_mutations tinyvox_core)
  target_include_directories(${name} PRIVATE native/include)
  target_link_options(${name} PRIVATE ${at_link})
endfunction()
add_target(fuzz_file ${fuzz}/file_target.cc)
add_target(fuzz_ngram ${fuzz}/ngram_target.cc)
add_target(fuzz_wav ${fuzz}/wav_target.cc ${fuzz}/wav_example.c native/examples/wav.c
           native/examples/resample.c)
target_compile_definitions(fuzz_wav PRIVATE TINYVOX_SEEDS="${fuzz}/seeds")
